"""What the page about a run shows, as plain texts and numbers, from the JSON files of the run."""

from collections.abc import Callable
from typing import Any

from ..evaluation.metrics import SUMMARY_METRICS, worst_groups
from ..method.plans import PLANS_WITH_BETA
from .record import named_evaluations
from .tables import comparison_rows

MAX_GROUPS = 1000

MAX_COUNTED = 1000
"""The table of training rows is left out above this number of groups; the group tables have these counts too."""

MAX_TRIALS = 50

NO_BREAK = "\u00a0"

_SPLITS = {"test": "Test set", "eval": "Validation set", "train": "Training set", "other": "Rows given to evaluate()"}

_SUMMARY_NAMES = {
    "worst_group_accuracy": "worst group",
    "group_balanced_accuracy": "group-balanced",
    "accuracy": "average",
    "adjusted_accuracy": "average, groups as in training",
}


def percent(share: float | None) -> str:
    """A share in [0, 1] in per cent with one decimal; a dash for none."""
    return "–" if share is None else f"{100 * share:.1f}"


def headline(report: dict[str, Any]) -> dict[str, Any] | None:
    """The summaries of the test set, or of another evaluation where there was none."""
    evaluations = _evaluations(report)
    if not evaluations:
        return None
    prefix, result = evaluations[0]
    judged = [group for group in result["groups"] if group["count"]]
    worst = min(judged, key=lambda group: group["accuracy"])
    return {
        "split": _split(prefix),
        "figures": [
            (name, percent(result[key]) + NO_BREAK + "%")
            for key, name in _SUMMARY_NAMES.items()
            if result.get(key) is not None
        ],
        "label": str(worst["label"]),
        "attribute": str(worst["attribute"]),
        "accuracy": percent(worst["accuracy"]),
        "rows": f"{worst['count']:,}",
        "interval": f"{percent(worst['ci_low'])} to {percent(worst['ci_high'])}",
    }


def _evaluations(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Evaluations with their prefixes, the test set first."""
    return sorted(named_evaluations(report).items(), key=lambda item: (item[0] != "test", item[0]))


def _split(prefix: str) -> str:
    return _SPLITS.get(prefix, prefix.removeprefix("eval_"))


def evaluation_parts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A group table for each evaluation; where groups are many, the worst first."""
    parts = []
    for prefix, result in _evaluations(report):
        groups = result["groups"]
        judged = [group for group in groups if group["count"]]
        if len(groups) > len(worst_groups(groups)[0]):
            groups = sorted(judged, key=lambda group: group["accuracy"])
        worst = min(judged, key=lambda group: group["accuracy"])
        names = [name for name in SUMMARY_METRICS if result.get(name) is not None]
        parts.append(
            {
                "title": _split(prefix),
                "fitted": prefix == "train",
                "step": result.get("step"),
                "has_train": any("train_count" in group for group in groups),
                "groups": [_group(group, group is worst) for group in groups[:MAX_GROUPS]],
                "many": len(groups) > 24,
                "hidden": max(0, len(groups) - MAX_GROUPS),
                "summaries": [(name.replace("_", " "), percent(result[name])) for name in names],
            }
        )
    return parts


def _group(group: dict[str, Any], is_worst: bool) -> dict[str, Any]:
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
    """The table of methods; None if there is but one."""
    if not isinstance(results, dict):
        raise TypeError(f"runs by method are needed; found a {type(results).__name__}")
    if len(results) < 2:
        return None
    header, rows, hidden = comparison_rows(results)
    seeds = [str(run["seed"]) for run in next(iter(results.values()))]
    note = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± deviation over the seeds {', '.join(seeds)}"
    return {"note": note, "header": header, "rows": rows, "hidden": hidden}


def example_parts(saved: dict[str, Any], embed: Callable[[str], str | None]) -> dict[str, Any]:
    """Worst examples by group, the group with the lowest accuracy first.

    Args:
        saved (`dict`): what [`save_worst_examples`] wrote.
        embed (`Callable`): the data URI of a picture by its name, or None.
    """
    groups = [group for group in saved["groups"] if group["examples"]]
    groups.sort(key=lambda group: group["accuracy"])
    return {
        "split": _split(saved["evaluation"]),
        "left_out": int(saved["groups_left_out"]),
        "groups": [
            {
                "label": str(group["label"]),
                "attribute": str(group["attribute"]),
                "accuracy": percent(group["accuracy"]),
                "count": f"{group['count']:,}",
                "examples": [_example(example, str(group["label"]), embed) for example in group["examples"]],
            }
            for group in groups
        ],
    }


def _example(example: dict[str, Any], label: str, embed: Callable[[str], str | None]) -> dict[str, Any]:
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
    if share is None:
        return "–"
    return f"{percent(share) if share >= 0.001 else 'below 0.1'}{NO_BREAK}%"


def method_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """How it was trained, as names and values."""
    method = report.get("method")
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
    if "pseudo_attributes" in report and report["pseudo_attributes"]["threshold"] is not None:
        rows.append(("threshold t of the pseudo-attributes", f"{report['pseudo_attributes']['threshold']:g}"))
    chosen = report.get("selection")
    if chosen is not None:
        by = f", selected on {chosen['metric']}" if chosen["best_model_loaded"] else ", the last one"
        rows.append(("weights of step", f"{chosen['step']}{by}"))
    return rows


def train_counts(report: dict[str, Any]) -> dict[str, Any] | None:
    """Training rows by label and attribute."""
    groups = report.get("train_groups")
    if groups is None or len(groups["label_names"]) * len(groups["attribute_names"]) > MAX_COUNTED:
        return None
    rows = zip(groups["label_names"], groups["counts"], strict=True)
    return {
        "columns": ", ".join(groups["attribute_columns"]),
        "pseudo": "pseudo_attributes" in report,
        "attributes": [str(name) for name in groups["attribute_names"]],
        "rows": [(str(name), [f"{count:,}" for count in counts]) for name, counts in rows],
    }


def recovery_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """How well pseudo-attributes recover the minority, by threshold."""
    table = report.get("pseudo_attributes", {}).get("recovery") or []
    return [
        (f"{entry['threshold']:g}", f"{entry['hard_rows']:,}", percent(entry["precision"]), percent(entry["recall"]))
        for entry in table
    ]


def search_rows(search: dict[str, Any]) -> dict[str, Any]:
    """The trials of a search, the best first."""
    trials = search["trials"]
    names = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    scale = 100 if search["objective"].endswith("accuracy") else 1
    rows = []
    for trial in trials[:MAX_TRIALS]:
        cells = [_text(trial["params"].get(name)) for name in names]
        value = None if trial["value"] is None else scale * trial["value"]
        rows.append([str(trial["number"]), *cells, _text(value), str(trial["state"])])
    objective = search["objective"].replace("_", " ") + (", %" if scale == 100 else "")
    return {
        "header": ["trial", *map(str, names), objective, "state"],
        "rows": rows,
        "hidden": max(0, len(trials) - MAX_TRIALS),
    }


def settings_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings that differ from the defaults, and the seed; empty for runs that did not save them."""
    return [(str(name), _text(value)) for name, value in report.get("settings", {}).items()]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
