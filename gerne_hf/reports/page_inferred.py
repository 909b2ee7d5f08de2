"""What the page about a run shows of the groups that were inferred where attributes are unknown.

From `inferred_groups.json` and the training examples beside it, as plain texts; imports this room's
[`page_parts`](gerne_hf.reports.page_parts). `pseudo_attributes/` writes the files, and
[`page`](gerne_hf.reports.page) shows what is returned here.
"""

from collections.abc import Callable
from typing import Any

from .page_parts import NO_BREAK, example_part, percent
from .record import RunRecord

MAX_COLUMNS = 15
"""Explaining columns that the table shows."""

MAX_VALUES = 6
"""Classes whose over-represented value the table shows for a column."""

RULE_TITLES = {
    "validation_shift": "rows like those that the validation set has more of than the training set",
    "validation_attributes": "rows of attribute values below their even share, as predicted from the validation set",
    "confident_mistakes": "rows whose own class has a probability below half of chance",
    "mistakes": "rows that a biased model predicts as another class",
    "threshold": "the share of each class with the lowest probability of the class",
}
"""What each rule takes for a minority, for people."""


def shows_inferred(record: RunRecord) -> bool:
    """Return False for a run that was trained on known groups: what was inferred belongs to an earlier run there.

    Args:
        record ([`RunRecord`]): the run.
    """
    return record.method is None or record.pseudo_attributes is not None


def inferred_part(saved: dict[str, Any]) -> dict[str, Any]:
    """Return what was taken for a minority and why, as texts.

    Args:
        saved (`dict`): the contents of `inferred_groups.json`.

    Returns:
        `dict`: `rule` and its `title`, `classes` (rows of a table), `whole` (whether no class was split), `accuracies`
        (pairs), `warnings`, `columns` (rows of a table), `others` (names of columns that explain nothing), `more`
        (how many explaining columns are not shown) and `noise`.
    """
    classes = [
        (
            str(split["label"]),
            f"{split['rows']:,}",
            f"{split['hard']:,}",
            percent(split["share_of_rows"]),
            percent(split["share_of_mass"]),
            str(split["reason"]),
        )
        for split in saved["classes"]
    ]
    columns = saved.get("explaining_columns", [])
    telling = [column for column in columns if column["beyond_chance"]]
    seen, unseen = saved.get("in_sample_accuracy"), saved.get("out_of_fold_accuracy")
    judged = saved.get("class_balanced_accuracy")
    one = saved.get("folds") == 1
    accuracies = [
        ("on rows that it was trained on", None if one else seen),
        ("on the training rows that it scores", unseen),
        ("on the validation set", judged),
    ]
    return {
        "rule": str(saved["rule"]),
        "title": RULE_TITLES.get(str(saved["rule"]), "rows by the rule of that name"),
        "classes": classes,
        "whole": not any(split["hard"] for split in saved["classes"]),
        "accuracies": [(name, percent(value) + NO_BREAK + "%") for name, value in accuracies if value is not None],
        "warnings": _texts(saved.get("warnings", [])),
        "columns": [_column(column) for column in telling[:MAX_COLUMNS]],
        "more": max(0, len(telling) - MAX_COLUMNS),
        "others": [str(column["column"]) for column in columns if not column["beyond_chance"]],
        "noise": _noise(saved.get("label_noise"), str(saved["rule"])),
    }


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list):
        raise TypeError(f"a list of texts is needed; found {values!r}")
    return [str(value) for value in values]


def _column(column: dict[str, Any]) -> dict[str, Any]:
    """Return a column's row of the table: name, share explained, and the value that is over-represented by class."""
    values = [
        {
            "label": str(value["label"]),
            "value": str(value["value"]),
            "hard": percent(value["share_of_hard"]),
            "others": percent(value["share_of_others"]),
        }
        for value in column["values"]
    ]
    return {
        "name": str(column["column"]),
        "explained": percent(column["explained"]),
        "values": values[:MAX_VALUES],
        "more": max(0, len(values) - MAX_VALUES),
    }


def _noise(noise: dict[str, Any] | None, rule: str) -> dict[str, Any] | None:
    """Return the figures of probable label noise as texts; None where nobody looked for it."""
    if noise is None:
        return None
    return {
        "count": int(noise["rows"]),
        "rows": f"{noise['rows']:,}",
        "hard": f"{noise['hard']:,}",
        "validated": rule.startswith("validation_") and noise["hard"] > 0,
        "candidates": f"{noise['candidates']:,}",
        "checked": f"{noise['checked']:,}",
        "neighbours": str(noise["neighbours"]),
        "sampled": bool(noise["sampled"]),
        "first": ", ".join(str(int(row)) for row in noise["first_rows"]),
        "more": noise["rows"] > len(noise["first_rows"]),
    }


def training_example_parts(saved: dict[str, Any], embed: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Return the hardest and typical training rows of each class.

    Args:
        saved (`dict`): the contents of `_examples/inferred/examples.json`, which
            [`save_training_examples`](gerne_hf.reports.examples.save_training_examples) wrote.
        embed (`Callable`): returns the data URI of a picture by its file name, or None where the file is missing.
    """
    return [
        {
            "label": str(group["label"]),
            "rows": f"{group['rows']:,}",
            "hard": f"{group['hard']:,}",
            "kinds": [
                (title, [example_part(example, str(group["label"]), embed) for example in group[kind]])
                for title, kind in (
                    ("Hard rows" if group["hard"] else "Rows with the lowest probability of the class", "hardest"),
                    ("Typical rows", "typical"),
                )
            ],
        }
        for group in saved["classes"]
    ]
