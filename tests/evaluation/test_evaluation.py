"""Group metrics in evaluate() and predict(), the choice of the best model, and what a run leaves behind."""

import json

import numpy as np
import pytest
import torch
from figures_by_hand import HELD_OUT, assert_figures, by_hand, expected_for
from helpers import SKEWED, config, mlp, table, trainer
from transformers import TrainerCallback

from gerne_hf import GerneTrainer, group_metrics

GROUPS = ["class0|0", "class0|1", "class1|0", "class1|1"]


# ---- the figures --------------------------------------------------------------------------------------------------


def test_evaluate_equals_the_figures_by_hand(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    metrics = trainer(tmp_path, model, eval_dataset=data).evaluate()
    expected = expected_for(model, data)
    assert 0 < expected["worst_group_accuracy"] < expected["group_balanced_accuracy"] < 1
    assert_figures(metrics, expected)
    assert metrics["eval_loss"] > 0
    for name in GROUPS:
        low, high = metrics[f"eval_group_ci_low/{name}"], metrics[f"eval_group_ci_high/{name}"]
        assert 0 <= low <= metrics[f"eval_group_accuracy/{name}"] <= high <= 1 and high - low > 0.1


def test_predict_gives_plain_labels_and_the_same_figures(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    output = trainer(tmp_path, model).predict(data)
    assert output.predictions.shape == (41, 2)
    assert output.label_ids.tolist() == data["label"][:]
    places = np.array(data["place"][:])
    assert_figures(output.metrics, by_hand(output.predictions.argmax(-1), output.label_ids, places), "test")
    result = group_metrics(output.predictions, output.label_ids, places, np.array(SKEWED))
    assert output.metrics["test_worst_group_accuracy"] == pytest.approx(result["worst_group_accuracy"])
    low = output.metrics["test_group_ci_low/class0|1"]
    assert low == pytest.approx(result["groups"][1]["ci_low"])


def test_evaluation_needs_no_training_set(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    subject = GerneTrainer(model=model, args=config(tmp_path), eval_dataset=data)
    expected = expected_for(model, data)
    del expected["adjusted_accuracy"]
    metrics = subject.evaluate()
    assert_figures(metrics, expected)
    assert "eval_adjusted_accuracy" not in metrics


def test_another_set_than_the_one_given_at_construction(tmp_path):
    model, other = mlp(2), table(HELD_OUT, seed=6)
    subject = trainer(tmp_path, model, eval_dataset=table(HELD_OUT, seed=5))
    assert_figures(subject.evaluate(other), expected_for(model, other))
    assert_figures(subject.evaluate(other, metric_key_prefix="held"), expected_for(model, other), "held")


def test_dict_of_evaluation_sets(tmp_path):
    model = mlp(2)
    sets = {"near": table(HELD_OUT, seed=5), "far": table(HELD_OUT, seed=6)}
    subject = trainer(tmp_path, model, eval_dataset=sets)
    metrics = subject.evaluate()
    for name, data in sets.items():
        assert_figures(metrics, expected_for(model, data), f"eval_{name}")
    assert_figures(subject.evaluate("far"), expected_for(model, sets["far"]))


def test_string_attributes_and_unused_text_columns(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    named = data.remove_columns("place").add_column("place", ["land" if p == 0 else "water" for p in data["place"]])
    train = table()
    train = train.remove_columns("place").add_column("place", ["land" if p == 0 else "water" for p in train["place"]])
    metrics = trainer(tmp_path, model, train, eval_dataset=named).evaluate()
    expected = {key.replace("|0", "|land").replace("|1", "|water"): v for key, v in expected_for(model, data).items()}
    assert_figures(metrics, expected)


def test_attribute_ids_follow_the_training_set_not_the_order_of_appearance(tmp_path):
    """Training knows "land" and "water"; a set with "water" and the new "sky" must not take their ids."""
    model, data = mlp(2), table(HELD_OUT, seed=5)
    words = ["sky" if p == 0 else "water" for p in data["place"]]
    named = data.remove_columns("place").add_column("place", words)
    train = table()
    train = train.remove_columns("place").add_column("place", ["land" if p == 0 else "water" for p in train["place"]])
    metrics = trainer(tmp_path, model, train, eval_dataset=named).evaluate()
    expected = expected_for(model, data)
    for label in ("class0", "class1"):
        assert metrics[f"eval_group_accuracy/{label}|sky"] == pytest.approx(expected[f"group_accuracy/{label}|0"])
        assert metrics[f"eval_group_accuracy/{label}|water"] == pytest.approx(expected[f"group_accuracy/{label}|1"])
    # Of the groups present, training has 8 and 30 rows (water) and none of sky.
    adjusted = (8 * expected["group_accuracy/class0|1"] + 30 * expected["group_accuracy/class1|1"]) / 38
    assert metrics["eval_adjusted_accuracy"] == pytest.approx(adjusted)


def test_several_attribute_columns(tmp_path):
    model, rng = mlp(2), np.random.default_rng(2)
    train = table(light=rng.permutation(["day", "night"] * 44).tolist())
    data = table(HELD_OUT, seed=5, light=rng.choice(["day", "night"], 41).tolist())
    metrics = trainer(tmp_path, model, train, attribute_column=["place", "light"], eval_dataset=data).evaluate()
    with torch.no_grad():
        hits = model(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy() == np.array(data["label"][:])
    for y, place, light in [(0, 1, "day"), (1, 0, "night"), (1, 1, "day")]:
        mask = [row == (y, place, light) for row in zip(data["label"], data["place"], data["light"], strict=True)]
        name = f"class{y}|{place} & {light}"
        assert metrics[f"eval_group_accuracy/{name}"] == pytest.approx(hits[mask].mean())
        assert metrics[f"eval_group_count/{name}"] == sum(mask)


@pytest.mark.parametrize("rows, workers", [(16, 0), (7, 2)])
def test_any_row_order_gives_the_same_figures(tmp_path, rows, workers):
    class Shuffled(GerneTrainer):
        def _get_eval_sampler(self, eval_dataset):
            return torch.utils.data.RandomSampler(eval_dataset)

    model, data = mlp(2), table(HELD_OUT, seed=5)
    settings = dict(per_device_eval_batch_size=rows, dataloader_num_workers=workers)
    subject = trainer(tmp_path, model, eval_dataset=data, cls=Shuffled, **settings)
    expected = expected_for(model, data)
    assert_figures(subject.evaluate(), expected)
    output = subject.predict(data)
    assert output.label_ids.tolist() != data["label"][:]  # it did shuffle
    assert_figures(output.metrics, expected, "test")


# ---- selection and what a run leaves behind -----------------------------------------------------------------------


class Replay(TrainerCallback):
    """Puts known weights into the model at each step, so that it is known which step is best."""

    seeds = {1: 0, 2: 6, 3: 0, 4: 2, 5: 0, 6: 4}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        model.load_state_dict(mlp(self.seeds[state.global_step]).state_dict())


def replayed(tmp_path, data, metric):
    strategy = dict(eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2, save_total_limit=1)
    best = dict(metric_for_best_model=metric, load_best_model_at_end=True, callbacks=[Replay()], max_steps=6)
    return trainer(tmp_path, mlp(1), eval_dataset=data, **strategy, **best)


@pytest.mark.parametrize("metric", ["worst_group_accuracy", "eval_group_accuracy/class1|0"])
def test_best_model_by_a_group_metric(tmp_path, metric):
    data = table(HELD_OUT, seed=5)
    subject = replayed(tmp_path, data, metric)
    subject.train()
    name = metric.removeprefix("eval_")
    values = {step: expected_for(mlp(Replay.seeds[step]), data)[name] for step in (2, 4, 6)}
    best = max(values, key=values.get)
    assert best != 6 and len(set(values.values())) == 3  # there is something to select
    assert subject.state.best_global_step == best
    assert subject.state.best_metric == pytest.approx(values[best])
    assert subject.evaluate()[f"eval_{name}"] == pytest.approx(values[best])


def test_the_report_is_of_the_best_model_where_that_was_loaded(tmp_path, capsys):
    data = table(HELD_OUT, seed=5)
    subject = replayed(tmp_path, data, "worst_group_accuracy")
    subject.train()
    result = json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"]["eval"]
    assert result["worst_group_accuracy"] == pytest.approx(expected_for(mlp(2), data)["worst_group_accuracy"])
    assert "(eval, step 4)" in capsys.readouterr().out


def test_a_run_leaves_table_json_and_picture(tmp_path, capsys):
    model, data = mlp(3), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, model, eval_dataset=data, eval_strategy="steps", eval_steps=1, beta=0.8)
    subject.train()
    expected = expected_for(model, data)

    printed = capsys.readouterr().out
    assert printed.count("Groups of the evaluation set (eval, step 2)") == 1
    row = next(line for line in printed.splitlines() if line.startswith("| (class0, 1)"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["(class0, 1)", "8", "14", f"{100 * expected['group_accuracy/class0|1']:.1f}"]
    assert f"worst group accuracy {100 * expected['worst_group_accuracy']:.1f}" in printed

    report = json.loads((tmp_path / "group_metrics.json").read_text())
    assert report["method"]["plan"] == "independent" and report["method"]["beta"] == 0.8
    assert report["method"]["beta_bounds"][0] == -1.0
    assert [segment["rows"] for segment in report["method"]["segments"]] == [4, 4]
    assert report["train_groups"]["counts"] == SKEWED
    result = report["evaluations"]["eval"]
    assert result["step"] == 2
    assert result["worst_group_accuracy"] == pytest.approx(expected["worst_group_accuracy"])
    assert [group["count"] for group in result["groups"]] == [9, 14, 11, 7]
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_evaluation_set_trains_quietly(tmp_path, capsys):
    trainer(tmp_path).train()
    assert "Groups of" not in capsys.readouterr().out
    assert json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"] == {}


def test_logs_have_group_accuracies_but_no_counts(tmp_path):
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), eval_strategy="steps", eval_steps=1)
    subject.train()
    entry = next(entry for entry in subject.state.log_history if "eval_loss" in entry)
    assert "eval_group_accuracy/class0/1" in entry
    assert not any("group_count" in key or "group_ci" in key for key in entry)
