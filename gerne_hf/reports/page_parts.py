"""What the page about a run shows, as plain texts and numbers, from the record and the other JSON files of the run.

Imports `evaluation/`, `method/` and `utils/`, nothing heavy, and the record and the tables of this room. Next:
[`page`](gerne_hf.reports.page), which reads the files and fills `templates/report.html`.
"""

from collections.abc import Callable
from typing import Any

from ..evaluation.metrics import SUMMARY_METRICS, worst_groups
from ..evaluation.names import HEADLINE_METRICS, SUMMARY_TITLES, objective_title, set_title, shown_in_percent, spaced
from ..method.plans import PLANS_WITH_BETA
from .record import RunRecord
from .scores_table import score_lines, score_rows
from .tables import VERDICT, comparison_rows, runs_by_method, seed_note

MAX_GROUPS = 1000
"""Groups that the table of an evaluation shows."""

MAX_COUNTED = 1000
"""The table of training rows is left out above this number of groups; the group tables have these counts too."""

MAX_TRIALS = 50
"""Trials that the table of a search shows."""

NO_BREAK = "\u00a0"
"""The space between a figure and its unit, at which no line is broken."""


def percent(share: float | None) -> str:
    """Return a share in per cent with one decimal, or a dash for None.

    Args:
        share (`float`, *optional*): in [0, 1].

    Example:

    ```python
    >>> percent(0.8125), percent(None)
    ('81.2', '–')

    ```
    """
    return "–" if share is None else f"{100 * share:.1f}"


def headline(record: RunRecord) -> dict[str, Any] | None:
    """Return the summaries and the worst group of the test set, or of another evaluation where that was not judged.

    Args:
        record ([`RunRecord`]): the run.

    Returns:
        `dict`: `split`, `figures` (pairs of a name and a figure in per cent), and `label`, `attribute`, `accuracy`,
        `rows` and `interval` of the worst group; None for a run without an evaluation.
    """
    evaluations = _evaluations(record)
    if not evaluations:
        return None
    prefix, result = evaluations[0]
    judged = [group for group in result["groups"] if group["count"]]
    worst = min(judged, key=lambda group: group["accuracy"])
    return {
        "split": set_title(prefix),
        "figures": [
            (SUMMARY_TITLES[name], percent(result[name]) + NO_BREAK + "%")
            for name in HEADLINE_METRICS
            if result.get(name) is not None
        ],
        "label": str(worst["label"]),
        "attribute": str(worst["attribute"]),
        "accuracy": percent(worst["accuracy"]),
        "rows": f"{worst['count']:,}",
        "interval": f"{percent(worst['ci_low'])} to {percent(worst['ci_high'])}",
    }


def _evaluations(record: RunRecord) -> list[tuple[str, dict[str, Any]]]:
    """Return the evaluations with their prefixes, the test set first."""
    return sorted(record.named_evaluations.items(), key=lambda item: (item[0] != "test", item[0]))


def evaluation_parts(record: RunRecord) -> list[dict[str, Any]]:
    """Return a group table for each evaluation; where groups are many, the worst come first.

    Args:
        record ([`RunRecord`]): the run.

    Returns:
        `list[dict]`: `title`, `step`, `groups` and `summaries` of each evaluation as texts, and whether it is of the
        training rows (`fitted`), has counts of training rows (`has_train`), is long (`many`), and how many groups it
        leaves out (`hidden`); `scores` is the table of metrics beyond accuracy, if there is one.
    """
    parts = []
    for prefix, result in _evaluations(record):
        groups = result["groups"]
        judged = [group for group in groups if group["count"]]
        if len(groups) > len(worst_groups(groups)[0]):
            groups = sorted(judged, key=lambda group: group["accuracy"])
        worst = min(judged, key=lambda group: group["accuracy"])
        names = [name for name in SUMMARY_METRICS if result.get(name) is not None]
        summaries = [(spaced(name), percent(result[name])) for name in names]
        biased = (record.pseudo_attributes or {}).get("biased_model_class_balanced_accuracy")
        if prefix == "eval" and biased is not None:
            summaries.append(("class balanced accuracy of the biased model, for comparison,", percent(biased)))
        parts.append(
            {
                "title": set_title(prefix),
                "fitted": prefix == "train",
                "step": result.get("step"),
                "has_train": any("train_count" in group for group in groups),
                "groups": [_group(group, group is worst) for group in groups[:MAX_GROUPS]],
                "many": len(groups) > 24,
                "hidden": max(0, len(groups) - MAX_GROUPS),
                "summaries": summaries,
                "scores": _scores(result),
            }
        )
    return parts


def _scores(result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the table of metrics beyond accuracy and the sentences below it as texts; None where there are none."""
    header, rows, hidden = score_rows(result, none="–")
    lines = score_lines(result, none="–")
    return {"header": header, "rows": rows, "hidden": hidden, "lines": lines} if rows or lines else None


def _group(group: dict[str, Any], is_worst: bool) -> dict[str, Any]:
    """Return a group's row of the table as texts, and the places in its bar, in per cent of the bar's width."""
    judged = group["count"] > 0
    bar = None
    if judged:
        low, high, share = (100 * float(group[key]) for key in ("ci_low", "ci_high", "accuracy"))
        bar = {"low": f"{low:.2f}", "width": f"{high - low:.2f}", "mark": f"{min(max(share - 0.75, 0), 98.5):.2f}"}
    return {
        "label": str(group["label"]),
        "attribute": str(group["attribute"]),
        "train": f"{group['train_count']:,}" if "train_count" in group else "–",
        "count": f"{group['count']:,}",
        "accuracy": percent(group["accuracy"]),
        "interval": f"{percent(group['ci_low'])} to {percent(group['ci_high'])}" if judged else "–",
        "bar": bar,
        "worst": is_worst,
    }


def comparison_part(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Return the table of methods, or None if there is but one method.

    Args:
        results (`dict[str, list[dict]]`): the contents of `comparison.json`: by method, the test result of each seed.

    Raises:
        TypeError: if `results` is no dictionary.
    """
    if not isinstance(results, dict):
        raise TypeError(f"runs by method are needed; found a {type(results).__name__}")
    runs = runs_by_method(results)
    if len(runs) < 2:
        return None
    header, rows, hidden = comparison_rows(runs)
    note = seed_note([run["seed"] for run in next(iter(runs.values()))])
    return {"note": note, "header": header, "rows": rows, "hidden": hidden, "verdict": results.get(VERDICT)}


def example_parts(saved: dict[str, Any], embed: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the rows that the model was most wrong about, by group, the group with the lowest accuracy first.

    Args:
        saved (`dict`): the contents of `examples.json`, which
            [`save_worst_examples`](gerne_hf.reports.examples.save_worst_examples) wrote.
        embed (`Callable`): returns the data URI of a picture by its file name, or None where the file is missing.
    """
    groups = [group for group in saved["groups"] if group["examples"]]
    groups.sort(key=lambda group: group["accuracy"])
    return {
        "split": set_title(saved["evaluation"]),
        "left_out": int(saved["groups_left_out"]),
        "groups": [
            {
                "label": str(group["label"]),
                "attribute": str(group["attribute"]),
                "accuracy": percent(group["accuracy"]),
                "count": f"{group['count']:,}",
                "examples": [example_part(example, str(group["label"]), embed) for example in group["examples"]],
            }
            for group in groups
        ],
    }


def example_part(example: dict[str, Any], label: str, embed: Callable[[str], str | None]) -> dict[str, Any]:
    """Return a row with its picture or its texts, what was predicted, and whether that was right.

    Args:
        example (`dict`): row, prediction, probability, and image or texts where there are any.
        label (`str`): the row's true label.
        embed (`Callable`): returns the data URI of a picture by its file name, or None where the file is missing.

    Raises:
        TypeError: for texts that are no list.
    """
    name, texts = example.get("image"), example.get("texts", [])
    if not isinstance(texts, list):
        raise TypeError(f"texts must be a list; found {texts!r}")
    image = None if name is None else embed(name)
    return {
        "row": int(example["row"]),
        "prediction": str(example["prediction"]),
        "right": str(example["prediction"]) == label,
        "probability": _probability(example["probability"]),
        "image": image,
        "missing": name is not None and image is None,
        "texts": [str(text) for text in texts],
    }


def _probability(share: float | None) -> str:
    """Return a probability in per cent; small ones are not rounded to zero."""
    if share is None:
        return "–"
    return f"{percent(share) if share >= 0.001 else 'below 0.1'}{NO_BREAK}%"


def method_rows(record: RunRecord) -> list[tuple[str, str]]:
    """Return how the model was trained, as pairs of a name and a value; empty for a run without a training set.

    Args:
        record ([`RunRecord`]): the run.
    """
    method = record.method
    if method is None:
        return []
    rows = [("plan", str(method["plan"]))]
    if method["plan"] in PLANS_WITH_BETA:
        low, high = method["beta_bounds"]
        bounds = f"{low:.3g} to {high:.3g}" if high is not None else f"{low:.3g}, no upper bound"
        rows += [
            ("c, degree of bias reduction", f"{method['c']:g}"),
            ("beta, extrapolation factor", f"{method['beta']:g} ({method['beta_schedule']})"),
            ("bounds of beta", bounds),
        ]
    rows += [
        (f"segment “{segment['name']}”", f"{segment['rows']:,} rows, coefficient {segment['coefficient']:.3g}")
        for segment in method["segments"]
    ]
    rows.append(("rows a step and device", f"{method['rows_per_device']:,}"))
    pseudo = record.pseudo_attributes or {}
    if pseudo.get("rule") is not None:
        rows.append(("rule by which groups were inferred", str(pseudo["rule"]).replace("_", " ")))
    if pseudo.get("threshold") is not None:
        rows.append(("threshold t of the pseudo-attributes", f"{pseudo['threshold']:g}"))
    if pseudo.get("folds") is not None:
        rows.append(("folds of the biased models", f"{pseudo['folds']:,}"))
    chosen = record.selection
    if chosen is not None:
        by = f", selected on {chosen['metric']}" if chosen["best_model_loaded"] else ", the last one"
        rows.append(("weights of step", f"{chosen['step']}{by}"))
    return rows


def train_counts(record: RunRecord) -> dict[str, Any] | None:
    """Return the numbers of training rows by label and attribute value.

    Args:
        record ([`RunRecord`]): the run.

    Returns:
        `dict`: `columns`, names of the columns that hold the attribute; `pseudo`, whether the groups are
        pseudo-groups; `attributes`, names of the attribute values; `rows`, pairs of a label and its counts. None
        where there are no training rows, or more than 1,000 groups.
    """
    groups = record.train_groups
    if groups is None or len(groups["label_names"]) * len(groups["attribute_names"]) > MAX_COUNTED:
        return None
    rows = zip(groups["label_names"], groups["counts"], strict=True)
    return {
        "columns": ", ".join(groups["attribute_columns"]),
        "pseudo": record.pseudo_attributes is not None,
        "attributes": [str(name) for name in groups["attribute_names"]],
        "rows": [(str(name), [f"{count:,}" for count in counts]) for name, counts in rows],
    }


def recovery_rows(record: RunRecord) -> list[tuple[str, ...]]:
    """Return how much of the minority the pseudo-attributes find, a row of texts for each threshold.

    Args:
        record ([`RunRecord`]): the run.
    """
    return [
        (f"{entry['threshold']:g}", f"{entry['hard_rows']:,}", percent(entry["precision"]), percent(entry["recall"]))
        for entry in record.recovery
    ]


def search_rows(search: dict[str, Any]) -> dict[str, Any]:
    """Return the trials of a search as a table of texts, the best first.

    Args:
        search (`dict`): the contents of `search.json`.
    """
    trials, objective = search["trials"], search["objective"]
    names = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    scale = 100 if shown_in_percent(objective) else 1
    rows = []
    for trial in trials[:MAX_TRIALS]:
        cells = [_text(trial["params"].get(name)) for name in names]
        value = None if trial["value"] is None else scale * trial["value"]
        rows.append([str(trial["number"]), *cells, _text(value), str(trial["state"])])
    return {
        "header": ["trial", *map(str, names), objective_title(objective), "state"],
        "rows": rows,
        "hidden": max(0, len(trials) - MAX_TRIALS),
    }


def settings_rows(record: RunRecord) -> list[tuple[str, str]]:
    """Return the settings that differ from the defaults, and the seed; empty for runs that did not save them.

    Args:
        record ([`RunRecord`]): the run.
    """
    return [(str(name), _text(value)) for name, value in record.settings.items()]


def _text(value: Any) -> str:
    """Return a setting's value as text, numbers with four digits at most."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
