"""What a comparison says of many runs: the log of 14, warnings once, how long it takes, and rows before training."""

import logging
import warnings

import pytest
from helpers import config, mlp, table
from transformers.utils import logging as transformers_logging
from workshop import Workshop

from gerne_hf import GerneTrainer
from gerne_hf.comparison.beforehand import MOST_GROUPS, counts_table, rows_by_split, where_not_to_select
from gerne_hf.comparison.quiet import heading, warnings_once


def test_the_log_of_14_runs(tmp_path, capfd, caplog, monkeypatch):
    """Seven methods, two seeds, figures logged at every step; no terminal. Nothing that is needed is lost."""
    for name in ("plot_training", "plot_comparison"):
        monkeypatch.setattr(f"gerne_hf.reports.plots.{name}", lambda *_, **__: None)
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # Trainer calls it at each start, and here are many
    shop = Workshop(tmp_path, max_steps=2, logging_steps=1, eval_strategy="steps", eval_steps=1, disable_tqdm=False)
    shop.validation = table([[9, 8], [7, 9]], seed=8)
    make = shop.make_trainer

    def noisy(run, trainer_class):
        warnings.warn("the scheduler was called too early", UserWarning, stacklevel=1)
        logging.getLogger("gerne_hf.somewhere").warning("a column is not used")
        return make(run, trainer_class)

    shop.make_trainer = noisy
    methods = ["erm", "class_balanced", "square_root", "resampling", "shared", "jtt", "independent"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        shop.compare(methods, seeds=(0, 1))
    out, err = capfd.readouterr()
    lines = [line for text in (out, err) for line in text.splitlines() if line.strip()]
    assert len(lines) < 100, "\n".join(lines)  # of which the tables are a half
    said = "\n".join(lines)
    assert [said.count(f": run {k} of 14") for k in range(1, 15)] == [1] * 14 and said.count(" left\n") >= 12
    assert [str(one.message) for one in warned].count("the scheduler was called too early") == 1
    assert caplog.text.count("a column is not used") == 1 and len(caplog.text.splitlines()) < 30
    assert "Warnings that had been said before and were left out: " in said
    assert (
        "training rows" in out.splitlines()[1]
        and "has 7 validation rows (and 3 more groups have fewer than 10): do not select on it" in out
    )
    assert "Methods, ranked by worst-group accuracy on the validation set" in out and "{'loss'" not in said


def test_a_single_run_says_as_much_as_ever(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gerne_hf.reports.plots.plot_training", lambda *_, **__: None)
    Workshop(tmp_path, max_steps=1).compare(["erm"])
    assert "{'loss'" in capsys.readouterr().out


def test_warnings_are_said_once_and_errors_always(capsys):
    seen = []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append((record.levelname, record.getMessage()))

    logger, handlers = logging.getLogger("gerne_hf"), [Keep(), Keep()]
    for handler in handlers:
        logger.addHandler(handler)
    shown = warnings.showwarning
    try:
        with warnings.catch_warnings(record=True) as found, warnings_once(), warnings_once():
            warnings.simplefilter("always")
            for _ in range(3):
                warnings.warn("old", UserWarning, stacklevel=1)
                warnings.warn("old", DeprecationWarning, stacklevel=1)
                logger.warning("few rows")
                logger.warning("few rows of %s", "b")
                logger.error("broken")
        logger.warning("few rows")
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
    assert [one.category for one in found] == [UserWarning, DeprecationWarning]
    once = [("WARNING", "few rows"), ("WARNING", "few rows of b")]
    assert [one for one in seen if one[0] == "WARNING"][::2] == [*once, once[0]]  # afterwards as before
    assert seen.count(("ERROR", "broken")) == 3 * 2 and warnings.showwarning is shown
    assert "Warnings that had been said before and were left out: 8." in capsys.readouterr().out
    assert transformers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize(
    "seconds, left, said",
    [
        ([], 14, ""),
        ([60.0, 60.0], 12, ", about 12 minutes left"),
        ([10.0], 4, ", about 40 seconds left"),
        ([7200.0], 5, ", about 10 hours left"),
        ([60.0], 0, ""),
    ],
)
def test_the_line_before_a_run(seconds, left, said):
    assert heading("DFR", 1, 3, 14, seconds, left) == f"=== DFR, seed 1: run 3 of 14{said}"


def test_rows_of_all_splits(tmp_path):
    subject = GerneTrainer(
        model=mlp(),
        args=config(tmp_path),
        train_dataset=table([[40, 8], [10, 30]]),
        eval_dataset=table([[5, 6], [7, 9]]),
    )
    splits = rows_by_split(subject, table([[1, 2], [3, 4]]))
    assert {name: [*counts.values()] for name, counts in splits.items()} == {
        "training": [40, 8, 10, 30],
        "validation": [5, 6, 7, 9],
        "test": [1, 2, 3, 4],
    }
    text = counts_table(splits)
    assert "| (class0, 1) |             8 |               6 |         2 |" in text
    subject.eval_dataset = None
    assert rows_by_split(subject, table())["validation"] is None


def test_many_groups_are_cut_to_those_with_the_fewest_validation_rows():
    groups = {(str(i), "a"): 100 - i for i in range(30)}
    text = counts_table({"training": groups, "validation": groups, "test": groups})
    assert text.count("\n| (") == MOST_GROUPS and "(29, a)" in text and "(5, a)" not in text
    assert text.endswith("6 groups have more validation rows than these.")


def test_where_not_to_select():
    counts = {("a", "x"): 9, ("a", "y"): 10, ("b", "x"): 0, ("b", "y"): 3}
    said = where_not_to_select(counts, "worst_group_accuracy")
    assert said.startswith(
        "The group (b, y) has 3 validation rows (and 1 more group has fewer than 10): do not select"
    )
    assert "With 2 of 3 right, 66.7 %, the 95 % interval is 20.8 to 93.9 %." in said
    for metric in ("accuracy", "class_balanced_accuracy", "overall_f1"):
        assert where_not_to_select(counts, metric) is None
    assert where_not_to_select({("a", "x"): 10}, "worst_group_accuracy") is None
    assert where_not_to_select(None, "worst_group_accuracy") is None
