"""Comparisons with unknown attributes: class-balanced ERM is always there, and is taken where inferred groups fail."""

import json

import numpy as np
import pytest
import torch
from helpers import MLP, assert_same, config, mlp, table
from safetensors.torch import load_file
from transformers import TrainerCallback

from gerne_hf.comparison.comparing import compare
from gerne_hf.comparison.judging import ROWS_FILE, judged, verdict, with_class_balanced
from gerne_hf.reports.tables import format_comparison

pytestmark = pytest.mark.usefixtures("without_pictures")

BIASED, EVEN, CLEAN = [[200, 20], [20, 200]], [[60, 60], [60, 60]], [[150, 150], [150, 150]]
NO_BETTER = "No method is better than class-balanced ERM here"
TITLE, BALANCED = "GERNE, unknown attributes", "class-balanced"


class Steps(TrainerCallback):
    """Notes the plan of each step, and interrupts at one."""

    def __init__(self, stop_at=None):
        self.seen, self.stop_at = [], stop_at

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append((args.pseudo_attributes, args.seed, state.global_step))
        if self.seen[-1] == self.stop_at:
            raise KeyboardInterrupt


def run(folder, train, methods=("erm", "pseudo"), seeds=(0,), stop_at=None, validation=EVEN, **settings):
    """A comparison without attributes, and the steps that were taken."""
    plain = dict(attribute_column=None, pseudo_attributes=True, max_steps=30, learning_rate=0.1, worst_examples=2)
    plain |= dict(per_device_train_batch_size=32, save_strategy="steps", save_steps=10)
    args, steps = config(folder, **{**plain, **settings}), Steps(stop_at)

    def make_trainer(settings, trainer_class):
        return trainer_class(
            model_init=lambda: mlp(settings.seed),
            args=settings,
            train_dataset=table(train),
            eval_dataset=None if validation is None else table(validation, seed=5),
            callbacks=[steps],
        )

    try:
        return compare(list(methods), args, make_trainer, table(EVEN, seed=9), seeds), steps.seen
    except KeyboardInterrupt:
        return None, steps.seen


def read(folder):
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def card(folder):
    return " ".join((folder / "README.md").read_text(encoding="utf-8").split())


def accuracy(folder):
    """Accuracy on the test set of the model that lies in a folder."""
    model, test = MLP.from_pretrained(folder), table(EVEN, seed=9)
    with torch.no_grad():
        predicted = model(torch.tensor(test["inputs"][:])).logits.argmax(-1).numpy()
    return float((predicted == np.array(test["label"][:])).mean())


# ---- the pool -----------------------------------------------------------------------------------------------------


def test_class_balanced_erm_is_in_every_pool_with_unknown_attributes():
    assert with_class_balanced(["pseudo"]) == ["class_balanced", "pseudo"]
    assert with_class_balanced(["jtt", "pseudo", "dfr"]) == ["jtt", "class_balanced", "pseudo", "dfr"]
    assert with_class_balanced(["pseudo", "class_balanced"]) == ["pseudo", "class_balanced"]
    assert with_class_balanced(["erm", "independent"]) == ["erm", "independent"]


# ---- the gate, by hand --------------------------------------------------------------------------------------------


def rows(folder, predicted, **more):
    """Writes rows of two classes of 100, in each of which the first 20 are the inferred minority."""
    folder.mkdir(exist_ok=True)
    labels = np.repeat([0, 1], 100)
    np.savez(folder / ROWS_FILE, labels=labels, predicted=np.where(predicted, labels, 1 - labels), **more)
    return str(folder)


def right(hard, easy):
    """Which rows are right: so many of the 20 hard ones and of the 80 others, in both classes."""
    return np.tile(np.concatenate([np.arange(20) < hard, np.arange(80) < easy]), 2)


@pytest.mark.parametrize(
    "hard, easy, whole, better",
    [
        (15, 80, False, True),
        (10, 80, False, False),  # no better in the worst group
        (11, 79, False, True),
        (12, 76, False, True),  # 2 points below: within the tolerance
        (12, 75, False, False),  # 3 points below
        (15, 80, True, False),  # no class was split: it is class-balanced ERM itself
    ],
)
def test_the_gate(tmp_path, hard, easy, whole, better):
    attributes = np.tile(np.repeat([0, 1], [20, 80]), 2)
    pseudo = rows(tmp_path / "pseudo", right(hard, easy), attributes=attributes, whole=whole)
    balanced = rows(tmp_path / "balanced", right(10, 80))
    found = judged(pseudo, pseudo, balanced)
    assert found["better"] is better
    assert found["worst_group_accuracy"] == pytest.approx([hard / 20, 0.5])
    assert found["class_balanced_accuracy"] == pytest.approx([(hard + easy) / 100, 0.9])
    folders = {"pseudo": pseudo, "class_balanced": balanced}
    assert verdict(folders) == (None if better else NO_BETTER)
    other = rows(tmp_path / "other", right(16, 80))
    other_too = verdict({**folders, "jtt": other})
    assert other_too == (None if better else "GERNE, unknown attributes: no better than class-balanced ERM here")
    assert verdict({**folders, "jtt": rows(tmp_path / "other", right(9, 80))}) == (None if better else NO_BETTER)


def test_real_groups_count_where_there_are_some(tmp_path):
    attributes = np.tile(np.repeat([0, 1], [20, 80]), 2)
    pseudo = rows(tmp_path / "pseudo", right(15, 80), attributes=attributes, whole=False, worst=0.4)
    balanced = rows(tmp_path / "balanced", right(10, 80), worst=0.45)
    assert judged(pseudo, pseudo, balanced)["worst_group_accuracy"] == [0.4, 0.45]
    assert not judged(pseudo, pseudo, balanced)["better"]
    assert judged(str(tmp_path), pseudo, balanced) is None and verdict({"pseudo": pseudo}) is None


# ---- comparisons --------------------------------------------------------------------------------------------------


def test_a_planted_minority_is_won_by_inferred_groups(tmp_path, capsys):
    results, _ = run(tmp_path, BIASED)
    printed = capsys.readouterr().out
    assert list(results) == ["ERM", BALANCED, TITLE] and "class-balanced is compared too" in printed
    gate = results[TITLE][0]["gate"]
    assert gate["better"] and gate["worst_group_accuracy"][0] > gate["worst_group_accuracy"][1] + 0.05
    own = json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"]["eval"]
    assert gate["worst_group_accuracy"][0] == pytest.approx(own["worst_inferred_group_accuracy"])
    assert gate["class_balanced_accuracy"][0] == pytest.approx(own["class_balanced_accuracy"])
    assert "verdict" not in read(tmp_path) and NO_BETTER not in printed + card(tmp_path)
    assert accuracy(tmp_path) == pytest.approx(results[TITLE][0]["accuracy"]) != results[BALANCED][0]["accuracy"]
    assert "split: judged" not in card(tmp_path)  # that evaluation is the gate's own
    assert "Validation set, seed 0: with inferred groups" in printed


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A comparison on data with nothing to fix."""
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        printed = []
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(map(str, text))))
        results, steps = run(folder, CLEAN, seeds=(0, 1))
    return folder, results, "\n".join(printed), steps


def test_on_clean_data_class_balanced_erm_is_taken(clean):
    folder, results, printed, _ = clean
    assert [run["gate"]["better"] for run in results[TITLE]] == [False, False]
    saved = read(folder)
    assert saved.pop("verdict") == NO_BETTER and saved.pop("ranking")["best"] and saved == results
    assert f"\n{NO_BETTER}.\n" in printed and f"{NO_BETTER}." in card(folder)
    assert accuracy(folder) == pytest.approx(results[BALANCED][0]["accuracy"])
    balanced = folder / "class_balanced-seed0"
    assert_same(load_file(folder / "model.safetensors"), load_file(balanced / "model.safetensors"))
    record = json.loads((folder / "group_metrics.json").read_text())
    assert record["method"]["plan"] == "erm" and "pseudo_attributes" not in record
    assert record["evaluations"]["test"]["accuracy"] == results[BALANCED][0]["accuracy"]
    assert (folder / "_examples" / "examples.json").read_text() == (
        balanced / "_examples" / "examples.json"
    ).read_text()


def test_the_other_model_is_kept_aside(clean):
    folder, results, _, _ = clean
    assert accuracy(folder / "pseudo-seed0") == pytest.approx(results[TITLE][0]["accuracy"])
    record = json.loads((folder / "pseudo-seed0" / "group_metrics.json").read_text())
    assert record["pseudo_attributes"]["rule"] == "validation_shift"


def test_one_that_ended_stays_as_it_is(clean):
    folder, results, _, _ = clean
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "README.md"}
    again, steps = run(folder, CLEAN, seeds=(0, 1), resume_from_checkpoint="true")
    assert again == results and not steps
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before}
    assert f"{NO_BETTER}." in card(folder)


@pytest.mark.parametrize("stop_at", [(False, 0, 15), (True, 0, 15), (True, 1, 15)])
def test_an_interrupted_one_goes_on_to_the_same_end(clean, tmp_path, stop_at):
    def figures(results):
        return {
            title: [{key: value for key, value in entry.items() if key != "train_seconds"} for entry in runs]
            for title, runs in results.items()
        }

    assert run(tmp_path, CLEAN, seeds=(0, 1), stop_at=stop_at)[0] is None
    results, steps = run(tmp_path, CLEAN, seeds=(0, 1), resume_from_checkpoint="true")
    assert 0 < len(steps) < len(clean[3]) and figures(results) == figures(clean[1])
    assert read(tmp_path)["verdict"] == NO_BETTER
    assert_same(load_file(tmp_path / "model.safetensors"), load_file(clean[0] / "model.safetensors"))
    assert json.loads((tmp_path / "group_metrics.json").read_text())["method"]["plan"] == "erm"


def test_a_retrained_class_balanced_erm_is_judged_anew(tmp_path):
    run(tmp_path, BIASED)
    settings = tmp_path / "class_balanced-seed0" / "run.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "learning_rate": 9.0}))
    kept = (tmp_path / "group_metrics.json").stat().st_mtime_ns
    results, steps = run(tmp_path, BIASED, resume_from_checkpoint="true")
    assert {step[:2] for step in steps} == {(False, 0)}  # the other had ended, at its last checkpoint
    assert results[TITLE][0]["gate"]["better"] and (tmp_path / "group_metrics.json").stat().st_mtime_ns > kept


def test_what_is_class_balanced_erm_itself_is_no_better_than_it(tmp_path):
    """As a search leaves it that found nothing better: the figures of the two differ by chance alone."""
    results, _ = run(tmp_path, BIASED, ["pseudo"], beta=-1.0)
    assert results[TITLE][0]["gate"]["better"] is False and read(tmp_path)["verdict"] == NO_BETTER
    with np.load(tmp_path / ROWS_FILE) as file:
        assert file["whole"] and file["attributes"].any()  # though classes were split


def test_attributes_of_the_validation_set_judge(tmp_path):
    results, _ = run(tmp_path, BIASED, attribute_column="place")
    gate = results[TITLE][0]["gate"]
    assert gate["better"]
    for title, value in zip((TITLE, BALANCED), gate["worst_group_accuracy"], strict=True):
        assert results[title][0]["validation"]["worst_group_accuracy"] == value


def test_another_main_method_stays_where_it_is(tmp_path, capsys):
    results, _ = run(*(tmp_path, CLEAN, ["pseudo", "independent"]), pseudo_attributes=False, attribute_column="place")
    assert list(results) == [BALANCED, TITLE, "GERNE"]
    assert accuracy(tmp_path) == pytest.approx(results["GERNE"][0]["accuracy"])
    assert not (tmp_path / "class_balanced-seed0" / "model.safetensors").exists()
    assert read(tmp_path)["verdict"] and read(tmp_path)["verdict"] in card(tmp_path)


def test_without_a_validation_set_nobody_decides(tmp_path, capsys):
    results, _ = run(tmp_path, BIASED, validation=None, pseudo_rule="confident_mistakes")
    assert list(results) == ["ERM", BALANCED, TITLE] and "gate" not in results[TITLE][0]
    assert "Nothing decides between inferred groups and class-balanced ERM" in capsys.readouterr().out
    assert accuracy(tmp_path) == pytest.approx(results[TITLE][0]["accuracy"]) and "verdict" not in read(tmp_path)


def test_the_verdict_stands_below_the_table(clean):
    results = clean[1]
    text = format_comparison({**results, "verdict": NO_BETTER})
    assert text == format_comparison(results) + f"\n{NO_BETTER}."
