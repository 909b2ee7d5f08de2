"""What a comparison says of all of its methods is on the page, and is no method."""

from gerne_hf.evaluation import group_metrics
from gerne_hf.reports.page_parts import comparison_part
from gerne_hf.reports.tables import VERDICT


def runs(right):
    result = group_metrics([0, 1, 0, int(right)], references=[0, 1, 0, 1], attributes=[0, 1, 1, 0])
    return [{**result, "seed": 0, "train_seconds": 1.0}]


def test_a_verdict_is_told_beside_the_methods():
    said = "No method is better than class-balanced ERM here"
    for results in ({VERDICT: said, "a": runs(True), "b": runs(False)}, {"a": runs(True), "b": runs(False)}):
        part = comparison_part(results)
        assert part["header"][1:] == ["a", "b"] and part["verdict"] == results.get(VERDICT)


def test_a_verdict_makes_no_second_method():
    assert comparison_part({"a": runs(True), VERDICT: "nothing to fix"}) is None
