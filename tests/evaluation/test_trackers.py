"""What trackers are told: one run, finished, with the final figures of every group under names of their own.

Each test uses the real package and skips where it is not installed.
"""

import glob

import pytest
from datasets import ClassLabel
from figures_by_hand import HELD_OUT
from helpers import mlp, table, trainer
from transformers import TrainerCallback

from gerne_hf.evaluation.logs import loggable, summaries, tracker_name

pytestmark = pytest.mark.usefixtures("without_pictures")

PLACES = ["男性", "女性"]


def named(counts=HELD_OUT, seed=0):
    data = table(counts, seed=seed).cast_column("label", ClassLabel(names=["negative", "positive"]))
    words = [PLACES[place] for place in data["place"]]
    return data.remove_columns("place").add_column("place", words)


def tracked(folder, tracker, **settings):
    """A run that tells `tracker`, and the figures of its last step by the names that a log has them under."""
    settings = {"eval_strategy": "steps", "eval_steps": 1, "report_to": tracker, "run_name": "mine", **settings}
    subject = trainer(folder, mlp(2), named([[40, 8], [10, 30]]), eval_dataset=named(seed=5), **settings)
    subject.train()
    groups = subject.group_results["eval"]["groups"]
    names = [f"group_accuracy/{g['label']}/{tracker_name(g['attribute'])}" for g in groups]
    figures = {name: group["accuracy"] for name, group in zip(names, groups, strict=True)}
    assert len(figures) == 4 and subject.group_results["eval"]["step"] == 2
    return {f"eval/{name}": value for name, value in figures.items()} | {
        "eval/worst_group_accuracy": min(figures.values())
    }


def assert_has(found, expected):
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert sum("group_accuracy/" in name for name in found) == 4


def test_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    expected = tracked(tmp_path / "run", "tensorboard")
    assert len(glob.glob(str(tmp_path / "board" / "**" / "events*"), recursive=True)) == 1
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    scalars = {tag: events.Scalars(tag)[-1] for tag in events.Tags()["scalars"]}
    assert_has({tag: event.value for tag, event in scalars.items()}, expected)
    assert {event.step for event in scalars.values()} == {2}
    assert "train/train_runtime" in scalars


@pytest.mark.slow
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    expected = tracked(tmp_path / "run", "mlflow")
    assert mlflow.active_run() is None
    [run] = mlflow.MlflowClient().search_runs(["0"])
    assert run.info.status == "FINISHED" and run.info.run_name == "mine"
    found = {name.replace("eval_", "eval/", 1): value for name, value in run.data.metrics.items()}
    assert_has(found, expected)


@pytest.mark.slow
def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    expected = tracked(tmp_path / "run", "wandb")
    run = wandb.run
    assert run is not None  # W&B keeps a run open until the process ends, with the stock Trainer, too
    found = dict(run.summary)
    run.finish()
    assert len(glob.glob(str(tmp_path / "wandb" / "offline-run-*"))) == 1
    assert_has(found, expected)
    assert found["train_runtime"] > 0


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    expected = tracked(tmp_path / "run", "trackio", project="groups")
    runs = list(trackio.Api().runs("groups"))
    assert [run.name for run in runs] == ["mine"]
    found = {}
    for entry in trackio.sqlite_storage.SQLiteStorage.get_logs("groups", "mine"):
        found.update({name: value for name, value in entry.items() if isinstance(value, float)})
    assert_has(found, expected)


# ---- which groups, and their names ----------------------------------------------------------------------------------


def test_of_many_groups_the_worst_are_logged():
    metrics = {f"eval_group_accuracy/a|{i}": ((7 * i) % 40) / 40 for i in range(40)}
    metrics |= {f"eval_group_count/a|{i}": 3 for i in range(40)} | {"eval_worst_group_accuracy": 0.0, "eval_loss": 2.0}
    logged = loggable(metrics)
    assert logged.pop("eval_worst_group_accuracy") == 0.0 and logged.pop("eval_loss") == 2.0
    assert sorted(logged.values()) == [i / 40 for i in range(10)]
    assert all(metrics[key.replace("a/", "a|")] == value for key, value in logged.items())
    assert len(loggable({key: 1.0 for key in list(metrics)[:32]})) == 32


def test_names_for_trackers_are_unique_and_ascii():
    names = [
        "a b",
        "a_b",
        "a-b",
        "a.b",
        "a/b",
        "a|b",
        "男性",
        "女性",
        "",
        ".",
        "..",
        "x" * 60,
        "x" * 61,
        "x" * 62,
        "é",
        "e",
    ]
    names += [tracker_name("a b"), tracker_name(tracker_name("a b")), "Ab", "ab", "a b ", "a  b"]
    found = [tracker_name(name) for name in names]
    assert len(set(found)) == len(set(names))
    assert all(name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in found)
    assert tracker_name("water_bird-2") == "water_bird-2"


# ---- notebooks ------------------------------------------------------------------------------------------------------


def test_the_table_in_a_notebook_shows_the_summaries(tmp_path):
    pytest.importorskip("IPython")
    from transformers.utils.notebook import NotebookProgressCallback

    class Keep(TrainerCallback):
        def on_train_end(self, *state, **more):
            self.table = callback.training_tracker.inner_table

    callback, kept = NotebookProgressCallback(), Keep()
    train, data = table([[40, 8, 5], [10, 30, 5]]), table([[9, 14, 3], [11, 7, 3]], seed=5)
    settings = dict(
        eval_dataset=data, callbacks=[kept, callback], eval_strategy="steps", eval_steps=1, disable_tqdm=True
    )
    subject = trainer(tmp_path, mlp(2), train, **settings)
    subject.train()
    columns = kept.table[0]
    assert "Worst Group Accuracy" in columns and "Validation Loss" in columns
    assert not [name for name in columns if "|" in name or "Count" in name or "Ci" in name] and len(columns) <= 10
    assert len(kept.table) == 3  # the names, and two evaluations
    metrics = subject.evaluate()
    assert sum("group_accuracy/" in key for key in metrics) == 6 and "eval_runtime" in metrics


def test_summaries_leave_out_single_groups():
    kept = summaries({"eval_accuracy": 1.0, "eval_group_ci_low/a|b": 0.5, "eval_group_balanced_accuracy": 0.5})
    assert kept == {"eval_accuracy": 1.0, "eval_group_balanced_accuracy": 0.5}
