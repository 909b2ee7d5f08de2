"""Model cards: what a reader who did not train the model must find on them, and what must never be there."""

import json
import re

import pytest
from cards import card_of
from helpers import MLP, bert, sentences, table, trainer
from huggingface_hub import ModelCard

from gerne_hf.baselines import JTTTrainer
from gerne_hf.reports.card_paragraphs import as_markdown
from gerne_hf.reports.model_card import template
from gerne_hf.reports.reproduction import reproduction_command

pytestmark = pytest.mark.usefixtures("without_pictures")


def trained(folder, **settings):
    evaluated = settings.pop("test", True)
    defaults = dict(eval_dataset=table(seed=3), max_steps=4, c=0.75, beta=0.5)
    subject = trainer(folder, **{**defaults, **settings})
    subject.train()
    if subject.eval_dataset is not None:
        subject.evaluate_if_stale()
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
    named = re.search(
        r"\*\*Worst group: (.*)\.\*\* Of its (\d+) rows in the test set the model gets\n([\d.]+) % right \(95 % int",
        text,
    )
    assert named.groups() == (
        f"({worst['label']}, {worst['attribute']})",
        str(worst["count"]),
        f"{100 * worst['accuracy']:.1f}",
    )
    selected = f"step {subject.state.best_global_step}, selected on the validation set's worst-group accuracy."
    assert subject.args.metric_for_best_model.removeprefix("eval_") == "worst_group_accuracy" and selected in text
    assert "Accuracy of each group, validation set, which the step was selected on:" in text
    assert "settings were given, not searched for" in text
    for group in groups:
        row = next(
            line for line in text.splitlines() if line.startswith(f"| ({group['label']}, {group['attribute']}) ")
        )
        assert [cell.strip() for cell in row.split("|")][2:4] == [str(group["train_count"]), str(group["count"])]
    assert "| c, degree of bias reduction" in text and "0.75" in text and "-1 to " in text
    assert "(class1, 0): 9" in text.split("## Known limits")[1]
    assert "(class0, 0): 60" not in text.split("## Known limits")[1]


def test_rows_that_the_model_was_fitted_to_are_on_the_card_but_are_no_result(tmp_path):
    subject = trained(tmp_path)
    subject.evaluate_training_rows()
    card = card_of(subject)
    parts = card.text.split("Accuracy of each group, ")
    assert [part.split(":")[0].split(",")[0] for part in parts[1:]] == ["test set", "validation set", "training set"]
    for group in subject.group_results["train"]["groups"]:
        assert group["count"] == group["train_count"]
        interval = f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}"
        assert re.search(rf"\| \({group['label']}, {group['attribute']}\) .*\| +{interval} \|", parts[3])
    assert {result.dataset_split for result in card.data.eval_results} == {"test", "validation"}
    runtimes = [entry["train_runtime"] for entry in subject.state.log_history if "train_runtime" in entry]
    assert len(runtimes) == 1 and f"{runtimes[0]:.0f} s |" in card.text  # of the training, not of these rows


@pytest.mark.parametrize(
    "choice, seconds_a_row, said",
    [
        (
            "auto",
            0.01,
            "evaluating the {rows} training rows would take about {needs} s, more than a tenth of the 7 s of",
        ),
        ("auto", 1e-5, None),
        ("always", 0.01, None),
        ("never", 1e-5, "the run was told never to evaluate its training rows"),
    ],
)
def test_training_rows_that_take_long_are_left_out(tmp_path, choice, seconds_a_row, said):
    subject = trained(tmp_path, training_accuracies=choice)
    assert 0 < subject.seconds_a_row < 1  # of the test set
    for entry in subject.state.log_history:
        if "train_runtime" in entry:
            entry["train_runtime"] = 7.0
    subject.seconds_a_row = seconds_a_row
    subject.evaluate_training_rows_if_cheap()
    text = " ".join(card_of(subject).text.split())
    assert ("train" in subject.group_results) == ("Accuracy of each group, training set" in text) == (said is None)
    rows = len(subject.groups)
    said = None if said is None else said.format(rows=rows, needs=f"{rows * seconds_a_row:.2g}")
    assert ("Training accuracies left out: " in text) == (said is not None)
    assert said is None or f"Training accuracies left out: {said}" in text


def test_training_rows_without_the_attribute_are_left_alone(tmp_path):
    unknown = dict(pseudo_attributes=True, threshold=0.2, train=table().remove_columns("place"))
    subject = trained(tmp_path, **unknown)
    subject.evaluate_training_rows()
    assert set(subject.group_results) == {"eval", "test"}


def test_data_licence_commit_and_source_of_the_attributes(tmp_path):
    subject = trained(tmp_path)
    subject.create_model_card(
        dataset="Places",
        dataset_tags="me/places",
        dataset_revision="a" * 40,
        dataset_license="for research only",
        attribute_source="what the camera's place says",
    )
    card = ModelCard.load(tmp_path / "README.md")
    rows = f"{len(subject.groups)} training rows, 194 rows in the test set"
    assert f"Data: Places (`me/places`, commit `{'a' * 40}`), {rows}, " in card.text
    assert "Licence of the data: for research only." in card.text
    assert "the data set's column `place`: what the camera's place says." in card.text
    assert {result.dataset_revision for result in card.data.eval_results} == {"a" * 40}


def test_the_commit_is_that_of_rows_loaded_from_the_hub(tmp_path, monkeypatch):
    """tests/system/hub has real loads; here is what the card makes of their origin."""
    monkeypatch.setattr("gerne_hf.trainer.hub_origin", lambda data: ("me/places", "b" * 40))
    subject = trained(tmp_path)
    data = card_of(subject).data
    assert data.datasets == ["me/places"] and {result.dataset_revision for result in data.eval_results} == {"b" * 40}
    others = card_of(subject, dataset_tags="you/places").data
    assert others.datasets == ["you/places"] and {result.dataset_revision for result in others.eval_results} == {None}


@pytest.mark.parametrize("rows", [9, 60])
def test_a_worst_group_of_few_rows_is_said_to_be_one(tmp_path, rows):
    subject = trained(tmp_path, test=False)
    subject.evaluate(table([[rows] * 2] * 2, seed=9), metric_key_prefix="test")
    assert ("These are too few rows to judge by" in card_of(subject).text) == (rows < 50)


def test_a_search_is_told(tmp_path):
    subject = trained(tmp_path)
    (tmp_path / "search").mkdir()
    told = "c, beta were chosen by 7 trials, compared on the validation set's worst-group accuracy."
    for c in (0.75, 0.25):  # what this run was trained with; what an earlier search in this folder has found
        search = {"best": {"params": {"c": c, "beta": 0.5}}, "trials": [{}] * 7}
        (tmp_path / "search" / "search.json").write_text(json.dumps(search))
        assert (told in card_of(subject).text) == (c == subject.args.c)
    assert "settings were given, not searched for in this run" in card_of(subject).text


def test_groups_without_rows_and_with_few_to_learn_from_are_named(tmp_path):
    subject = trained(tmp_path, test=False)
    subject.evaluate(table([[60, 0], [9, 70]], seed=9), metric_key_prefix="test")
    limits = card_of(subject).text.split("## Known limits")[1].split("## How to load it")[0]
    few = [g for g in subject.group_results["test"]["groups"] if g["train_count"] < 50]
    assert "Groups not judged, without rows in the test set: (class0, 1)." in limits and few
    assert (
        "to learn from: " + "; ".join(f"({g['label']}, {g['attribute']}): {g['train_count']}" for g in few) in limits
    )


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
    card = card_of(subject)
    assert card.data.pipeline_tag == "text-classification" and card.data.get("widget") is None
    assert "model = AutoModelForSequenceClassification.from_pretrained(" in card.text and "pipeline" not in card.text
    assert "No tokenizer and no image processor was saved with the model" in card.text


def test_unknown_attributes_are_said_to_be_unknown(tmp_path):
    subject = trained(tmp_path, pseudo_attributes=True, threshold=0.2)
    text = card_of(subject).text
    assert "Training used no attribute labels: of each class the share 0.2 of rows" in text
    assert "The column `place` was read for evaluation only." in text
    assert "| threshold t |" in text


def test_no_attributes_at_all(tmp_path):
    subject = trained(tmp_path, pseudo_attributes=True, threshold=0.2, attribute_column=None, test=False)
    text = card_of(subject).text
    assert "Training used no attribute labels: of each class" in text and "| threshold t |" not in text
    assert "Nor does the evaluation: the groups of the tables are the classes." in text


def test_a_baseline_is_called_by_its_name(tmp_path):
    text = card_of(trained(tmp_path, cls=JTTTrainer, plan="erm")).text
    assert "JTTTrainer" in text and "the errors of a biased model" in text


def test_a_model_that_was_never_evaluated(tmp_path):
    subject = trainer(tmp_path, max_steps=1)
    subject.train()
    text = card_of(subject).text
    assert "**Worst group: not evaluated.**" in text and "no evaluation set to select on" in text


def test_no_token_and_no_place_of_the_machine(tmp_path, monkeypatch):
    secret = "hf_" + "x" * 30
    places = ["--output_dir", "/home/me/out", "--dataset_name=/home/me/birds/"]
    monkeypatch.setattr(
        "sys.argv", ["/home/me/recipes/mine.py", "--hub_token", secret, "--beta", "1", f"--token={secret}", *places]
    )
    subject = trained(tmp_path, hub_token=secret)
    subject.create_model_card()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert secret not in text and "/home/me" not in text and str(tmp_path) not in text
    assert "accelerate launch recipes/mine.py --beta 1 --output_dir out --dataset_name=birds\n" in text


@pytest.mark.parametrize("arguments", [[], ["-c"], ["/usr/bin/jupyter", "x"]])
def test_without_a_script_there_is_no_command(arguments):
    assert reproduction_command(arguments) is None


def test_settings_that_are_no_fields_of_the_config(tmp_path):
    subject = trained(tmp_path, beta=0.5)
    subject.create_model_card(other_settings={"erm_epochs": 2.0})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.search(r"\| `erm_epochs` +\| +2.0 \|", text) and re.search(r"\| `beta` +\| +0.5 \|", text)


def test_the_command_keeps_what_lies_below_the_scripts_folder():
    places = ["--config", "/home/me/recipes/configs/birds.yaml", "--output_dir", "/home/me/out"]
    command = reproduction_command(["/home/me/recipes/mine.py", *places])
    assert command == "accelerate launch recipes/mine.py --config recipes/configs/birds.yaml --output_dir out"


def test_the_command_tells_the_processes():
    assert reproduction_command(["a/b.py", "--c=-1"], 2) == "accelerate launch --num_processes 2 a/b.py --c=-1"
    assert reproduction_command(["a/b.py", "--dataset_name", "a/b"]) == "accelerate launch a/b.py --dataset_name a/b"


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
