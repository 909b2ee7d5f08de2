"""What somebody who knows neither method nor author finds on a card, and what the Hub reads from it."""

from dataclasses import replace

import pytest
import torch
from card_code import run_code_of
from cards import card_of
from datasets import ClassLabel
from helpers import bert, sentences, table, trainer
from peft import LoraConfig, get_peft_model
from published import texts, tokenizer
from transformers import BertForSequenceClassification

from gerne_hf import GerneConfig
from gerne_hf.evaluation.selection import collapse_after
from gerne_hf.models.adapters import hide_base_folder
from gerne_hf.reports import facts
from gerne_hf.reports.loading import loading_code
from gerne_hf.reports.metadata import EMISSIONS_FILE
from gerne_hf.reports.record import ModelFacts, RunRecord

pytestmark = pytest.mark.usefixtures("without_pictures")


def trained(folder, *parts, **settings):
    subject = trainer(folder, *parts, **{"eval_dataset": table(seed=3), "max_steps": 2, **settings})
    subject.train()
    if subject.eval_dataset is not None:
        subject.evaluate_if_stale()
    return subject


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A model of texts with its tokenizer, trained and evaluated."""
    folder = tmp_path_factory.mktemp("run") / "birds"
    subject = trained(folder, bert(), texts(), eval_dataset=texts(1), processing_class=tokenizer())
    return subject


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


# ---- words, limits, whom to ask -------------------------------------------------------------------------------------


def test_the_words_of_the_method_are_explained(classifier):
    text = card_of(classifier).text
    for word in ("*Group*", "*Worst-group accuracy*", "*95 % interval*", "*c*", "*beta*"):
        assert text.count(f"- {word}: ") == 1


def test_words_that_do_not_occur_are_not_explained(tmp_path):
    text = card_of(trained(tmp_path, plan="erm", attribute_column=None)).text
    assert "*Worst-class accuracy*" in text and "*Worst-group" not in text and "*beta*" not in text


def test_what_not_to_use_it_for_are_the_groups_that_it_fails(classifier):
    told = section(card_of(classifier).text, "What it is for").split("Not for:")[1]
    for group in classifier.group_results["eval"]["groups"]:
        named = f"({group['label']}, {group['attribute']}) ({100 * (1 - group['accuracy']):.0f} % wrong)"
        assert (named in told) == (group["accuracy"] < 0.8)
    assert "its answer is always one of its own." in told and "Decisions about people" in told


def test_without_figures_nothing_is_said_to_be_safe(tmp_path):
    told = section(card_of(trained(tmp_path, eval_dataset=None)).text, "What it is for")
    assert "Anything in which a wrong answer does harm: nobody has judged it." in told


def test_whom_to_ask(classifier):
    assert "to whoever gave you this model." in section(card_of(classifier).text, "Whom to ask")
    classifier.hub_model_id = "me/birds"
    try:
        told = section(card_of(classifier, dataset_tags="me/places", finetuned_from="you/base").text, "Whom to ask")
    finally:
        classifier.hub_model_id = None
    assert "[discussions](https://huggingface.co/me/birds/discussions)" in told
    assert "[me/places](https://huggingface.co/datasets/me/places)" in told
    assert "[you/base](https://huggingface.co/you/base)" in told and "https://arxiv.org/abs/2503.13236" in told


def test_where_the_attributes_come_from(tmp_path):
    assert "Who or what says which value a row has was not told." in card_of(trained(tmp_path / "a")).text
    subject = trained(tmp_path / "b", attribute_source="two people looked at each row")
    assert "column `place`: two people looked at each row." in card_of(subject).text
    assert "column `place`: a model." in card_of(subject, attribute_source="a model").text
    assert RunRecord.load(tmp_path / "b").run.attribute_source == "two people looked at each row"
    with pytest.raises(ValueError, match="attribute_source must be a text"):
        GerneConfig(output_dir=str(tmp_path), attribute_source=3)


# ---- a collapse after the selected step -----------------------------------------------------------------------------


def history(*values, key="eval_worst_group_accuracy"):
    return [{"step": 10 * (i + 1), key: value} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    "values, metric, found",
    [
        ((0.2, 0.9, 0.5, 0.3), "worst_group_accuracy", {"value": 0.3, "at": 40, "best": 0.9}),
        ((0.2, 0.9, 0.85, 0.8), "worst_group_accuracy", None),  # 0.1 is no collapse
        ((0.2, 0.9), "worst_group_accuracy", None),
        ((0.2, 0.9, 0.1), "loss", None),
        ((0.2, 0.9, 0.1), "eval_worst_group_accuracy", {"value": 0.1, "at": 30, "best": 0.9}),
    ],
)
def test_a_collapse_is_found(values, metric, found):
    log = history(*values) + [{"step": 10 * len(values), "eval_worst_group_accuracy": 0.9}]  # the best, read again
    assert collapse_after(log, metric, step=20) == found


def test_a_collapse_is_told(tmp_path):
    settings = dict(
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True
    )
    subject = trained(tmp_path, **settings)
    step = subject.state.best_global_step
    assert "Training longer did harm" not in card_of(subject).text
    subject.state.log_history = [
        {"step": at, "eval_worst_group_accuracy": value} for at, value in ((step, 0.9), (step + 5, 0.25))
    ]
    assert f"from 90.0 % there, that figure had fallen to 25.0 % at step {step + 5}." in card_of(subject).text


# ---- loading --------------------------------------------------------------------------------------------------------


def test_the_call_has_an_example_and_its_answer(classifier):
    card, found = card_of(classifier), classifier.run_record().example
    assert found["input"] == "This is an example." and found["output"]["label"] in ("land", "water")
    code = section(card.text, "How to load it")
    assert 'classify("This is an example.")\n' in code and "pip install torch transformers\n" in code
    assert f'# "{found["output"]["label"]}", with the probability {found["output"]["score"]:.2f}' in code
    assert card.data.widget == [{"text": "This is an example.", "example_title": "Example"}]


def test_an_example_of_ones_own(classifier):
    classifier.create_model_card(example='the "jay"')
    text = open(f"{classifier.args.output_dir}/README.md", encoding="utf-8").read()
    assert 'classify("the \\"jay\\"")\n# "' in text


def test_the_answer_is_not_asked_for_during_training(classifier):
    classifier.is_in_train = True
    try:
        assert classifier.run_record().example is None
    finally:
        classifier.is_in_train = False


def test_on_a_branch_the_code_names_the_revision(classifier):
    classifier.hub_model_id, classifier.args.hub_revision = "me/birds", "debiased"
    try:
        code = section(card_of(classifier).text, "How to load it")
    finally:
        classifier.hub_model_id, classifier.args.hub_revision = None, None
    assert 'pipeline("text-classification", model="me/birds", revision="debiased")' in code


def test_timm_on_a_branch(classifier):
    record = classifier.run_record()
    model = ModelFacts("TimmWrapper", "image-classification", None, False, True, False, "image_processor", ["a", "b"])
    run = replace(record.run, hub_id="me/birds", hub_revision="debiased")
    code = loading_code(replace(record, model=model, run=run), "x", "image-classification")
    assert 'timm.create_model("hf-hub:me/birds@debiased", pretrained=True)' in code
    assert 'AutoImageProcessor.from_pretrained("me/birds", revision="debiased")' in code


def adapter(base):
    model = bert()
    model.config._name_or_path = model.name_or_path = base
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))


def test_an_adapter_names_its_classes(tmp_path):
    subject = trained(tmp_path, adapter("me/base"), texts(), eval_dataset=texts(1), processing_class=tokenizer())
    card = card_of(subject)
    code = section(card.text, "How to load it")
    assert 'labels = ["land", "water"]' in code and "**names, ignore_mismatched_sizes=True)" in code
    assert "pip install torch transformers peft" in code and "FOLDER_OF" not in code
    assert (card.data.base_model, card.data.get("base_model_relation")) == ("me/base", "adapter")


def test_an_adapter_of_a_local_folder_says_so_and_its_path_is_not_published(tmp_path):
    base = tmp_path / "secret place"
    bert().save_pretrained(base)
    model = adapter(str(base))
    subject = trained(tmp_path / "run", model, texts(), eval_dataset=texts(1), processing_class=tokenizer())
    subject.hub_model_id = "me/birds"
    subject.save_model()
    subject.create_model_card()
    text = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "The base model of this adapter was a local folder and is not published with it." in text
    assert '"FOLDER_OF_THE_BASE_MODEL"' in text and "PeftModel.from_pretrained(base, " in text
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and b"secret place" in path.read_bytes()]
    assert not [path.name for path in kept if path.name != "training_args.bin"]
    assert not hide_base_folder(str(tmp_path / "run")) and not hide_base_folder(str(tmp_path))


def test_the_code_of_an_adapter_of_a_local_folder_runs_where_the_folder_is(tmp_path, monkeypatch):
    """Its base has a head of two classes, the adapter three."""
    bert().save_pretrained(tmp_path / "base")
    rows = texts()
    names = ClassLabel(names=["air", "land", "water"])
    rows = rows.remove_columns("label").add_column("label", [i % 3 for i in range(len(rows))])
    rows = rows.cast_column("label", names)
    model = BertForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=3, ignore_mismatched_sizes=True
    )
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))
    subject = trained(tmp_path / "run", model, rows, eval_dataset=None, processing_class=tokenizer())
    subject.save_model()
    text = card_of(subject).text.replace("FOLDER_OF_THE_BASE_MODEL", str(tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    found = run_code_of(text)
    label, probability = found["told"]
    assert found["labels"] == names.names and found["answer"]["label"] == label
    assert found["answer"]["score"] == pytest.approx(probability, abs=0.0051)
    ids = {name: torch.tensor(rows[:4][name]) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert torch.allclose(found["model"].eval()(**ids).logits, subject.model.eval()(**ids).logits, atol=1e-6)


# ---- metadata -------------------------------------------------------------------------------------------------------


@pytest.fixture
def base_card(tmp_path, monkeypatch):
    """A cache in which the card of a base model lies."""
    path = tmp_path / "BASE.md"

    def write(text):
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(facts, "try_to_load_from_cache", lambda repo, name: str(path))
        facts._license.cache_clear()

    yield write
    facts._license.cache_clear()


def licences(classifier, **given):
    classifier.model.config._name_or_path = "me/base"
    data = card_of(classifier, **given).data
    return data.license, data.license_name, data.license_link, data.base_model, data.get("base_model_relation")


def test_the_licence_is_that_of_the_base_model(classifier, base_card):
    base_card("---\nlicense: mit\n---\n# base")
    assert licences(classifier) == ("mit", None, None, "me/base", "finetune")
    assert licences(classifier, license="cc0-1.0")[0] == "cc0-1.0"
    base_card("---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n# base")
    assert licences(classifier)[:3] == ("other", "mine", "LICENSE")
    assert licences(classifier, license="other", license_name="n", license_link="l")[:3] == ("other", "n", "l")
    base_card("---\nlicense: [broken\n---")
    assert licences(classifier)[:3] == (None, None, None)


def test_a_base_model_without_a_card_is_no_error(classifier):
    facts._license.cache_clear()
    assert licences(classifier)[:3] == (None, None, None)  # not online: nobody is asked


def test_tags_source_and_emissions(classifier):
    assert "generated_from_trainer" in card_of(classifier).data.tags
    assert card_of(classifier).data.get("co2_eq_emissions") is None
    path = f"{classifier.args.output_dir}/{EMISSIONS_FILE}"
    with open(path, "w", encoding="utf-8") as file:
        file.write("timestamp,emissions,country_name,gpu_model\n1,0.5,x,\n2,0.0123,Germany,1 x A100\n")
    classifier.hub_model_id = "me/birds"
    try:
        data = card_of(classifier).data
    finally:
        classifier.hub_model_id = None
    assert data.get("co2_eq_emissions") == {
        **{"emissions": 12.3, "source": "CodeCarbon", "training_type": "fine-tuning"},
        **{"geographical_location": "Germany", "hardware_used": "1 x A100"},
    }
    places = {(result.source_name, result.source_url) for result in data.eval_results}
    assert places == {("group_metrics.json", "https://huggingface.co/me/birds/blob/main/group_metrics.json")}


def test_sentences_are_no_widget_for_other_models(tmp_path):
    subject = trained(tmp_path, bert(), sentences(), eval_dataset=sentences(seed=2))
    assert card_of(subject).data.get("widget") is None
