"""The ranking of methods: on validation figures alone, and the sentences on what the test set shows."""

import numpy as np
import pytest

from gerne_hf.comparison.ranking import gap_of, ranked, ranking_metric
from gerne_hf.comparison.telling_apart import Rows
from gerne_hf.evaluation.metrics import group_metrics
from gerne_hf.reports.ranking_table import format_ranking

CELLS, UNIT = np.repeat([0, 1, 2, 3], [400, 100, 80, 420]), np.eye(2, dtype=bool)


def one_run(levels, validation, seconds=10.0, seed=0):
    """A run with these accuracies of the groups: its result, and its rows."""
    places = np.concatenate([np.random.default_rng(seed).permutation(n) / n for n in np.bincount(CELLS)])
    correct = places < np.asarray(levels)[CELLS]  # these shares exactly
    labels = CELLS // 2
    result = group_metrics(np.where(correct, labels, 1 - labels), labels, CELLS % 2)
    result |= {"seed": seed, "train_seconds": seconds, "validation": {"worst_group_accuracy": validation}}
    return result, Rows(correct, CELLS, UNIT)


def split(runs):
    results = {title: [one[0] for one in of_method] for title, of_method in runs.items()}
    return results, {title: [one[1] for one in of_method] for title, of_method in runs.items()}


@pytest.fixture(scope="module")
def four():
    """ERM with a gap; two alike, the cheaper one second on validation; one far below."""
    return split(
        {
            "ERM": [one_run([0.99, 0.4, 0.5, 0.99], 0.41, 5, seed) for seed in (1, 2)],
            "resampling": [one_run([0.9, 0.8, 0.8, 0.9], 0.80, 20, seed) for seed in (1, 2)],
            "GERNE": [one_run([0.9, 0.81, 0.8, 0.9], 0.82, 30, seed) for seed in (1, 2)],
            "square-root": [one_run([0.95, 0.55, 0.6, 0.95], 0.6, 20, seed) for seed in (1, 2)],
        }
    )


def test_the_order_is_that_of_the_validation_set(four):
    results, rows = four
    found = ranked(results, rows)
    assert found["order"] == ["GERNE", "resampling", "square-root", "ERM"] and found["best"] == "GERNE"
    swapped = {**results, "ERM": [{**run, "validation": {"worst_group_accuracy": 0.99}} for run in results["ERM"]]}
    assert ranked(swapped, rows)["best"] == "ERM"  # whatever the test set says


def test_what_cannot_be_told_apart_and_what_is_cheapest(four):
    found = ranked(*four)
    assert found["not_told_apart"] == ["resampling"] and found["cheapest"] == "resampling"
    assert found["differences"]["ERM"]["low"] > 0.2 and found["unknown"] == []
    said = " ".join(found["said"])
    assert "GERNE is best on the validation set. On the test set it cannot be told apart from resampling" in said
    assert "worst-group accuracy, paired bootstrap over 1,000 rows and 2 seeds" in said
    assert "The cheapest of these is resampling: 20 s of training, GERNE 30 s." in said
    assert "It is better than ERM and square-root by more than the interval." in said
    assert "no gap" not in said and found["gap"]["none"] is False


def test_methods_that_are_equal_on_the_validation_set_are_named(four):
    results, rows = four
    results = {
        **results,
        "GERNE": [{**r, "validation": results["resampling"][0]["validation"]} for r in results["GERNE"]],
    }
    assert "resampling is best on the validation set, and so is GERNE. On the test" in " ".join(
        ranked(results, rows)["said"]
    )


def test_one_that_does_better_on_the_test_set_is_named(four):
    results, rows = four
    results = {**results, "ERM": [{**run, "validation": {"worst_group_accuracy": 0.99}} for run in results["ERM"]]}
    found = ranked(results, rows)
    assert found["not_told_apart"] == [] and found["cheapest"] == "ERM"
    said = " ".join(found["said"])
    assert "ERM is best on the validation set. On the test set it can be told apart from all others" in said
    assert "GERNE does better on the test set, by " in said and "which the validation set does not show" in said


def test_erm_without_a_gap():
    results, rows = split(
        {"ERM": [one_run([0.9, 0.87, 0.9, 0.9], 0.88)], "GERNE": [one_run([0.9, 0.86, 0.9, 0.9], 0.87)]}
    )
    found = ranked(results, rows)
    worst = min(results["ERM"][0]["groups"], key=lambda group: group["accuracy"])
    assert found["gap"]["none"] and found["gap"]["worst_high"] == worst["ci_high"] > results["ERM"][0]["accuracy"]
    assert found["said"][-1].startswith("ERM shows no gap: its worst group (")
    assert found["said"][-1].endswith("There is nothing to fix here.")
    assert "ERM is the cheapest of these, 10 s of training." in found["said"]  # of two alike, the best itself


def test_of_few_rows_no_gap_can_be_told():
    group = {"label": "a", "attribute": "b", "count": 5, "accuracy": 0.0, "ci_low": 0.0, "ci_high": 0.43}
    run = {"accuracy": 0.23, "groups": [group], "seed": 0, "train_seconds": 1.0}
    found = ranked({"ERM": [{**run, "validation": {"worst_group_accuracy": 0.0}}]}, {"ERM": [None]})
    assert found["said"] == ["Whether ERM has a gap cannot be told: its worst group has 5 test rows."]


def test_the_gap_by_hand():
    group = {"label": "a", "attribute": "b", "count": 10}
    runs = [
        {"accuracy": 0.8, "groups": [{**group, "accuracy": 0.5, "ci_high": 0.7}, {**group, "accuracy": 0.9}]},
        {"accuracy": 0.7, "groups": [{**group, "accuracy": None}, {**group, "accuracy": 0.6, "ci_high": 0.76}]},
    ]
    found = gap_of(runs)
    assert found["average"] == pytest.approx(0.75) and found["worst"] == pytest.approx(0.55)
    assert found["worst_high"] == pytest.approx(0.73) and found["none"] is False


def test_without_validation_figures_nothing_is_ranked(four):
    results, rows = four
    results = {**results, "ERM": [{**run, "validation": {}} for run in results["ERM"]]}
    found = ranked(results, rows)
    assert found["best"] is None and "differences" not in found and found["order"][-1] == "ERM"
    assert found["said"][0].startswith("The methods are not ranked: there are no validation figures of all of them")


def test_what_is_fitted_on_validation_rows_is_not_ranked_by_them(four):
    """DFR is right on its own rows. Whether the test set can tell it from the best is said all the same."""
    results, rows = four
    results = {**results, "DFR": [{**r, "validation": {"worst_group_accuracy": 1.0}} for r in results["resampling"]]}
    found = ranked(results, {**rows, "DFR": rows["resampling"]}, fitted_on_validation=["DFR", "not compared"])
    assert found["best"] == "GERNE" and found["order"][-1] == "DFR" and found["fitted_on_validation"] == ["DFR"]
    assert "DFR" in found["not_told_apart"]
    assert "DFR is fitted on the validation rows, so that figures of these rows cannot rank it." in found["said"]
    assert " (100.0±0.0) |" in format_ranking(results, found)
    alone = ranked({"DFR": results["DFR"]}, rows, fitted_on_validation=["DFR"])
    assert alone["best"] is None and alone["said"][0].endswith("all of them are fitted on the validation rows.")


def test_rows_that_were_not_kept_are_told(four):
    results, rows = four
    found = ranked(results, {**rows, "resampling": [rows["resampling"][0], None]})
    assert found["unknown"] == ["resampling"] and found["not_told_apart"] == []
    assert any("apart from resampling is not known: their test rows were not kept" in one for one in found["said"])
    nothing = ranked(results, {title: [None, None] for title in rows})
    assert nothing["unknown"] == ["ERM", "resampling", "square-root"] and nothing["differences"] == {}


def test_other_test_rows_are_not_compared(four):
    results, rows = four
    other = Rows(rows["ERM"][0].correct[::-1], CELLS[::-1], UNIT)
    assert ranked(results, {**rows, "ERM": [other, other]})["unknown"] == ["ERM"]


def test_the_metric_that_selects_ranks(four):
    results, rows = four
    assert ranking_metric(None, results) == ranking_metric("eval_worst_group_accuracy", results)
    assert ranking_metric("loss", results) == "worst_group_accuracy"  # not among the figures of the runs
    with_f1 = {
        title: [{**run, "validation": {"worst_group_accuracy": 0.5, "gap": i / 10}} for run in runs]
        for i, (title, runs) in enumerate(results.items())
    }
    assert ranking_metric("eval_gap", with_f1) == "gap"
    found = ranked(with_f1, rows, "gap", greater_is_better=False)
    assert found["order"] == list(results) and found["statistic"] == "worst_group_accuracy"


def test_the_table(four):
    results, _ = four
    lines = format_ranking(results, ranked(*four)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == [
        *("method", "validation: worst group", "test: worst group", "its rows", "95 % interval", "test: average"),
        *("seeds", "training time, s"),
    ]
    assert [row[0] for row in cells[2:]] == ["GERNE", "resampling", "square-root", "ERM"]
    runs = results["ERM"]
    worst = [run["worst_group_accuracy"] for run in runs]
    by_hand = f"{100 * np.mean(worst):.1f}±{100 * np.std(worst, ddof=1):.1f}"
    assert cells[-1][1:3] == ["41.0±0.0", by_hand] and cells[-1][3] == "100" and cells[-1][-2:] == ["2", "5"]
    low, high = (
        [min(run["groups"], key=lambda g: g["accuracy"])[key] for run in runs] for key in ("ci_low", "ci_high")
    )
    assert cells[-1][4] == f"{100 * np.mean(low):.1f} to {100 * np.mean(high):.1f}"
