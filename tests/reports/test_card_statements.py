"""Model cards: what they say is true of every kind of run, and names of classes are shown as they are."""

import json

import pytest
from cards import card_of
from helpers import bert, config, mlp, sentences, table, trainer
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model

from gerne_hf import GerneTrainer
from gerne_hf.reports.page import render
from gerne_hf.streaming import ReservoirStream

pytestmark = pytest.mark.usefixtures("without_pictures")

BEST = dict(eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True)


def trained(folder, *parts, **settings):
    subject = trainer(folder, *parts, **{"eval_dataset": table(seed=3), "max_steps": 2, **settings})
    subject.train()
    if subject.eval_dataset is not None:
        subject.evaluate_if_stale()
    return subject


def read(subject):
    """The card as the Hub reads it."""
    subject.create_model_card()
    with open(f"{subject.args.output_dir}/README.md", encoding="utf-8") as file:
        return ModelCard(file.read())


def test_erm_is_not_said_to_help_minorities(tmp_path):
    text = read(trained(tmp_path, plan="erm")).text
    assert "does not fail on minority groups" not in text and "must not decide" not in text
    assert "Method: ERM, which does nothing for minority groups." in text
    assert "Training used no attribute labels. The column `place` was read for evaluation only." in text


@pytest.mark.parametrize("settings", [{"plan": "erm"}, {"pseudo_attributes": True, "threshold": 0.2}])
def test_without_attributes_a_class_is_not_called_a_group(tmp_path, settings):
    subject = trained(tmp_path, attribute_column=None, **settings)
    card = read(subject)
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert set(found) == {"worst_class_accuracy", "class_balanced_accuracy", "accuracy"} == set(card.data.metrics)
    assert found["worst_class_accuracy"] == round(subject.group_results["eval"]["worst_class_accuracy"], 4)
    assert "**Worst class: class" in card.text and "Worst group" not in card.text
    assert "the groups of the tables are the classes." in card.text


def test_two_evaluation_sets(tmp_path):
    sets = {"near": table(seed=3), "far": table(seed=5)}
    card = read(trained(tmp_path, eval_dataset=sets, metric_for_best_model="eval_far_worst_group_accuracy", **BEST))
    assert {result.dataset_split for result in card.data.eval_results} == {"near", "far"}
    assert "selected on the evaluation set “far”'s worst-group accuracy." in card.text
    assert "Accuracy of each group, evaluation set “far”, which the step was selected on:" in card.text
    assert "Accuracy of each group, evaluation set “near”:" in card.text
    assert "88 rows in the evaluation set “near”" in card.text and "validation set" not in card.text


def test_rows_that_no_step_was_selected_on_are_not_called_the_validation_set(tmp_path):
    subject = trained(tmp_path, **BEST)
    subject.evaluate(table([[60, 55], [9, 70]], seed=9))  # a test set, without a prefix of its own
    card = read(subject)
    assert {result.dataset_split for result in card.data.eval_results} == {"other"}
    assert "Accuracy of each group, set given to `evaluate`:" in card.text and "which the step" not in card.text
    assert "194 rows in the set given to `evaluate`." in card.text and "rows in the validation set" not in card.text
    subject.save_group_metrics()
    assert "<h3><bdi>Rows given to evaluate()</bdi>" in render(tmp_path)
    subject.evaluate()
    assert "Accuracy of each group, validation set, which the step was selected on:" in read(subject).text


def test_a_model_that_was_only_evaluated(tmp_path):
    subject = GerneTrainer(model=mlp(), args=config(tmp_path), eval_dataset=table(seed=3))
    subject.evaluate()
    text = read(subject).text
    assert "which was not trained here." in text and "The weights are those that were given" in text
    assert "Choosing one of 2 classes (class0, class1)" in text and "evaluation set to select on" not in text
    assert "Attributes are those of the data set's column `place`." in text


def test_a_model_that_was_not_evaluated(tmp_path):
    text = read(trained(tmp_path, eval_dataset=None)).text
    assert "It was not judged: evaluate it on your own groups" in text


def test_the_rows_of_a_reservoir_are_not_the_rows_of_its_stream(tmp_path):
    stream = ReservoirStream(table().to_iterable_dataset(), attribute_column="place", prefix_rows=80)
    text = read(trained(tmp_path, train=stream)).text
    assert "a stream of training rows, whose groups were counted in 80 rows" in text
    assert "80 training rows" not in text


def test_an_adapter(tmp_path):
    adapter = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    subject = trained(tmp_path, get_peft_model(bert(), adapter), sentences(), eval_dataset=sentences(seed=2))
    card = read(subject)
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-classification")
    assert "A PEFT adapter of a `BertForSequenceClassification`, trained with" in card.text


def test_a_folder_of_another_machine_is_no_base_model(tmp_path):
    subject = trained(tmp_path, bert(), sentences(), eval_dataset=sentences(seed=2))
    for origin, base in (("/home/me/model", None), ("models/run/last", None), ("me/model", "me/model")):
        subject.model.config._name_or_path = origin
        assert card_of(subject).data.base_model == base


ODD = ["a|b <script>alert(1)</script>", "[x](y) *z*\nnext: - {{ 7 }} `code` #"]


def test_odd_names_break_neither_tables_nor_metadata(tmp_path):
    rows = table(seed=3)
    places = [ODD[place] for place in rows["place"]]
    rows = rows.remove_columns("place").add_column("place", places)
    subject = trained(tmp_path / ODD[1].split("\n")[0].replace("/", ""), train=rows, eval_dataset=rows)
    name = "# a: 'b' \"c\" - {{ d }} é"
    subject.create_model_card(model_name=name)
    with open(f"{subject.args.output_dir}/README.md", encoding="utf-8") as file:
        card = ModelCard(file.read())
    assert card.data.model_name == name and len(card.data.eval_results) == 3
    groups = [line for line in card.text.splitlines() if line.startswith("| (class")]
    assert len(groups) == 4 and all(line.replace("\\|", "").count("|") == 6 for line in groups)
    assert "(class0, a\\|b &lt;script>alert(1)&lt;/script>)" in card.text
    assert "\\[x\\](y) \\*z\\* next: &#45; {{ 7 }} \\`code\\` &#35;" in card.text
    saved = json.loads(open(subject.save_group_metrics(), encoding="utf-8").read())
    assert saved["train_groups"]["attribute_names"] == sorted(ODD)
