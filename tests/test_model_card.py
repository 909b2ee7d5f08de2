"""Model cards: what a reader who did not train the model must find on them, and what must never be there."""

import re

import pytest
from helpers import MLP, bert, sentences, table, trainer
from huggingface_hub import ModelCard

from gerne_hf.baselines import JTTTrainer
from gerne_hf.card_text import as_markdown, reproduction_command
from gerne_hf.model_card import build_card, template

pytestmark = pytest.mark.usefixtures("without_pictures")


def trained(folder, **settings):
    evaluated = settings.pop("test", True)
    defaults = dict(eval_dataset=table(seed=3), max_steps=4, c=0.75, beta=0.5)
    subject = trainer(folder, **{**defaults, **settings})
    subject.train()
    if evaluated:
        subject.evaluate(table([[60, 55], [9, 70]], seed=9), metric_key_prefix="test")
    return subject


def test_a_reader_finds_the_worst_group_its_rows_and_the_selection(tmp_path):
    subject = trained(
        tmp_path,
        **dict(eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, load_best_model_at_end=True),
    )
    subject.create_model_card()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    groups = subject.group_results["test"]["groups"]
    worst = min(groups, key=lambda group: group["accuracy"])
    named = re.search(r"\*\*Worst group: (.*), ([\d.]+) % of (\d+) rows\*\* \(test set", text)
    assert named.groups() == (
        f"{worst['label']}, {worst['attribute']}",
        f"{100 * worst['accuracy']:.1f}",
        str(worst["count"]),
    )
    assert f"selected on the validation set's {subject.args.metric_for_best_model.removeprefix('eval_')}" in text
    assert f"step {subject.state.best_global_step}," in text
    for group in groups:
        row = next(line for line in text.splitlines() if line.startswith(f"| {group['label']}, {group['attribute']} "))
        assert [cell.strip() for cell in row.split("|")][2:4] == [str(group["train_count"]), str(group["count"])]
    assert "| c, degree of bias reduction" in text and "0.75" in text and "-1 to " in text
    assert "class1, 0 (9)" in text.split("## Known limits")[1]
    assert "class0, 0 (60)" not in text.split("## Known limits")[1]


def test_metadata_holds_the_metrics_of_every_evaluation(tmp_path):
    subject = trained(tmp_path)
    subject.create_model_card(
        language="en", license="mit", tags="mine", dataset="Places", dataset_tags="me/places", model_name="my model"
    )
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.language, card.data.datasets) == ("mit", "en", ["me/places"])
    assert {"gerne", "mine"} <= set(card.data.tags) and card.data.library_name == "transformers"
    found = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    for split, prefix in (("test", "test"), ("validation", "eval")):
        for metric in ("worst_group_accuracy", "group_balanced_accuracy", "accuracy"):
            assert found[split, metric] == pytest.approx(subject.group_results[prefix][metric], abs=1e-4)
    assert all(result.dataset_type == "me/places" for result in card.data.eval_results)


def test_the_task_follows_from_the_model(tmp_path):
    subject = trainer(tmp_path, bert(), sentences(), eval_dataset=sentences(seed=2), max_steps=1)
    subject.train()
    card = build_card(subject)
    assert card.data.pipeline_tag == "text-classification"
    assert 'pipeline("text-classification", model=' in card.text


def test_unknown_attributes_are_said_to_be_unknown(tmp_path):
    subject = trained(tmp_path, pseudo_attributes=True, threshold=0.2)
    text = build_card(subject).text
    assert "Training used no attribute labels: of each class the share 0.2 of rows" in text
    assert "The column `place` was read for evaluation only." in text
    assert "| threshold t |" in text


def test_no_attributes_at_all(tmp_path):
    subject = trained(tmp_path, pseudo_attributes=True, threshold=0.2, attribute_column=None, test=False)
    text = build_card(subject).text
    assert "No attribute labels were used." in text and "| threshold t |" not in text


def test_a_baseline_is_called_by_its_name(tmp_path):
    text = build_card(trained(tmp_path, cls=JTTTrainer, plan="erm")).text
    assert "JTTTrainer" in text and "the errors of a biased model" in text


def test_a_model_that_was_never_evaluated(tmp_path):
    subject = trainer(tmp_path, max_steps=1)
    subject.train()
    text = build_card(subject).text
    assert "not evaluated" in text and "no evaluation set to select on" in text


def test_no_token_and_no_place_of_the_machine(tmp_path, monkeypatch):
    secret = "hf_" + "x" * 30
    monkeypatch.setattr(
        "sys.argv", ["/home/me/recipes/mine.py", "--hub_token", secret, "--beta", "1", f"--token={secret}"]
    )
    subject = trained(tmp_path, hub_token=secret)
    subject.create_model_card()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert secret not in text and "/home/me" not in text and str(tmp_path) not in text
    assert "accelerate launch recipes/mine.py --beta 1" in text


@pytest.mark.parametrize("arguments", [[], ["-c"], ["/usr/bin/jupyter", "x"]])
def test_without_a_script_there_is_no_command(arguments):
    assert reproduction_command(arguments) is None


def test_a_line_below_a_table_is_no_row_of_it():
    assert as_markdown("| a |\n|---|\n| 1 |\nsum 1") == "| a |\n|---|\n| 1 |\n\nsum 1"
    assert as_markdown("| a |\n|---|") == "| a |\n|---|"


def test_the_template_has_all_parts():
    for part in ("What it is for", "Who it works for", "Known limits", "How to load it", "Citation"):
        assert f"## {part}" in template()


def test_the_model_of_the_card_loads(tmp_path):
    subject = trained(tmp_path)
    subject.save_model()
    subject.create_model_card()
    assert MLP.from_pretrained(tmp_path).config.num_labels == 2
