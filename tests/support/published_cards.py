"""Adapters, a branch and scores that are pushed with their cards, `push()`, and their cards' code run as it stands in
another process, `run()`; each returns what it found."""

import re

import torch
from card_code import run_code_of
from datasets import ClassLabel, Dataset
from helpers import bert, config
from hub_scores import scored, training_set
from huggingface_hub import DatasetCard, HfApi, ModelCard
from peft import LoraConfig, get_peft_model
from published import texts, tokenizer
from transformers import AutoModelForSequenceClassification

from gerne_hf import GerneTrainer
from gerne_hf.reports import plots

NAMES = {2: ["land", "water"], 3: ["air", "land", "water"]}
RUNS = {"lora-2": 2, "lora-3": 3, "branch": 2}
REVISIONS = {"branch": "debiased"}


def rows(classes: int) -> Dataset:
    """Tokenized texts with 2 or 3 classes."""
    data = texts()
    if classes == 2:
        return data
    labels = [i % 3 for i in range(len(data))]
    data = data.remove_columns("label").add_column("label", labels)
    return data.cast_column("label", ClassLabel(names=NAMES[3]))


def adapter(classes: int):
    """A LoRA of the base model on the Hub, whose own head has 2 classes."""
    model = AutoModelForSequenceClassification.from_pretrained(
        "tester/base", num_labels=classes, ignore_mismatched_sizes=True
    )
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))


def logits(model) -> list:
    """Of a few rows, without labels."""
    batch = {name: torch.tensor(texts(1)[:4][name]) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return model.eval()(**batch).logits.tolist()


def push() -> dict:
    """Train and push; the logits by name."""
    plots.plot_training = lambda *args: None
    HfApi().create_repo("tester/base")
    bert().push_to_hub("tester/base")
    HfApi().create_repo("tester/branch")
    found = {}
    for name, classes in RUNS.items():
        model = bert() if name == "branch" else adapter(classes)
        more = dict(push_to_hub=True, hub_model_id=f"tester/{name}", hub_revision=REVISIONS.get(name))
        args = config(name, class_balanced=True, empty_groups="ignore", **more)
        trainer = GerneTrainer(model, args, train_dataset=rows(classes), processing_class=tokenizer())
        trainer.train()
        trainer.push_to_hub()
        found[name] = logits(trainer.model)
    scored(training_set()).push_to_hub("tester/scores", 0.1, dataset="somebody/birds", license="mit")
    return found


def run() -> dict:
    """Run the code of the cards."""
    found = {}
    for name, classes in RUNS.items():
        path = HfApi().hf_hub_download(f"tester/{name}", "README.md", revision=REVISIONS.get(name))
        names = run_code_of(ModelCard.load(path).text)
        model = names["classify"].model
        labels = [model.config.id2label[i] for i in range(classes)]
        told = {key: names[key] for key in ("answer", "told")}
        found[name] = {**told, "labels": labels, "logits": logits(model)}
    card = DatasetCard.load("tester/scores")
    blocks = re.findall(r"```python\n(.*?)```", card.text, re.S)
    columns = []
    for block in blocks:
        names = {"train_dataset": training_set()}
        exec(block, names)
        columns.append(names["train_dataset"])
    hard = [data[name][:] for data, name in zip(columns, ("pseudo_attribute", "pseudo_attribute_0.1"), strict=True)]
    found["scores"] = {
        "equal": hard[0] == hard[1],
        "license": card.data.license,
        "source": card.data.get("source_datasets"),
    }
    return found


def metric(readme: str) -> dict:
    """Run the examples of the metric's card, with the metric loaded by its id."""
    import doctest

    from gerne_hf.evaluate_modules import push_group_accuracy

    push_group_accuracy("tester/group_accuracy")
    text = open(readme, encoding="utf-8").read()
    by_id = 'evaluate.load("tester/group_accuracy", module_type="metric")'
    text = text.replace("evaluate.load(GROUP_ACCURACY_PATH)", by_id)
    test = doctest.DocTestParser().get_doctest(text, {}, "card", readme, 0)
    outcome = doctest.DocTestRunner(verbose=False).run(test)
    return {"failed": outcome.failed, "tried": outcome.attempted}
