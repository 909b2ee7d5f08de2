"""The sentences and tables of a model card, each written from the record of a run.

Imports `evaluation/`, `groups/`, `method/` and `utils/`, and the tables of this room. Next:
[`build_card`](gerne_hf.reports.model_card.build_card), which puts the parts together, and `templates/model_card.md`,
which says in which order.
"""

import json
import os
from typing import Any

from ..evaluation.metrics import MAX_TABLE_GROUPS
from ..evaluation.names import metric_title, set_name
from ..evaluation.selection import selected_on
from ..groups.names import group_title
from ..method.plans import PLAN_TITLES, PLANS_WITH_BETA
from ..utils.markdown import code, format_table, plain, prose
from .ended import fault_sentences
from .ranking_table import RANKING
from .record import (
    COMPARISON_FILE,
    COMPARISON_PICTURE_FILE,
    GROUP_METRICS_FILE,
    ORIGINAL_TRAINER,
    TRAINING_PICTURE_FILE,
    RunRecord,
)
from .scores_table import format_score_table
from .tables import format_comparison, format_group_table, runs_by_method

SMALL_GROUP = 50
"""Groups with fewer rows than this in an evaluation are named as too small to judge."""

Evaluations = dict[str, dict[str, Any]]
"""Results of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) by prefix, in the order of the card."""


def summary(record: RunRecord, base_model: str | list[str] | None) -> str:
    """Return the card's first sentence: what the model is, and by which method it was trained.

    Args:
        record ([`RunRecord`]): the run.
        base_model (`str` or `list[str]`, *optional*): Hub id of the model that it was fine-tuned from.
    """
    name = f"PEFT adapter of a {code(record.model.name)}" if record.model.adapter else code(record.model.name)
    bases = [base_model] if isinstance(base_model, str) else base_model or []
    base = f", fine-tuned from {', '.join(map(code, bases))}" if bases else ""
    if not record.run.trained:
        return f"A {name}{base}, which was not trained here."
    if record.run.plain:
        return f"A {name}{base}, trained with `gerne_hf`. Method: ERM, which does nothing for minority groups."
    purpose = f"trained with `gerne_hf` so that it does not fail on minority groups. Method: {method_text(record)}."
    return f"A {name}{base}, {purpose}"


def as_markdown(text: str) -> str:
    """Return a table and the lines below it, with a blank line between: Markdown would take those lines for rows.

    Args:
        text (`str`): the lines of a table, then other lines; names in them are escaped already.

    Example:

    ```python
    >>> print(as_markdown("| a |\\n|---|\\n| 1 |\\nsum 1"))
    | a |
    |---|
    | 1 |
    <BLANKLINE>
    sum 1

    ```
    """
    lines = text.splitlines()
    rows = sum(line.startswith("|") for line in lines)
    return "\n".join([*lines[:rows], "", *lines[rows:]]).rstrip()


def group_text(result: dict[str, Any]) -> str:
    """Return the table of groups of an evaluation, and that of metrics beyond accuracy where there are any.

    Args:
        result (`dict`): a result of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
    """
    tables = [format_group_table(result, plain), format_score_table(result, plain)]
    return "\n\n".join(as_markdown(table).strip() for table in tables if table)


def table_title(record: RunRecord, prefix: str) -> str:
    """Return the line above the group table of an evaluation, which says whether the step was selected on it.

    Args:
        record ([`RunRecord`]): the run.
        prefix (`str`): the evaluation's prefix, such as "test".
    """
    more, chosen = "", record.selection or {}
    if chosen.get("best_model_loaded") and _selected_on(record, chosen["metric"])[0] == prefix:
        more = ", which the step was selected on"
    elif prefix == "train":
        more = ", rows as training saw them (for comparison: the model was fitted to these rows)"
    step = record.evaluations.get(prefix, {}).get("step")
    if chosen and step is not None and step != chosen["step"]:
        more += f", by the weights of step {step}, while those saved here are of step {chosen['step']}"
    return f"Accuracy of each group, {set_name(prefix)}{more}:"


def _selected_on(record: RunRecord, metric: str) -> tuple[str, str]:
    """Return the prefix of the evaluation set that steps were selected on, and the metric without the set's name."""
    return selected_on(metric, record.run.evaluation_sets or [])


def worst_group(record: RunRecord, evaluations: Evaluations) -> dict[str, Any] | None:
    """Return what the card says of the group with the lowest accuracy.

    Args:
        record ([`RunRecord`]): the run.
        evaluations (`dict[str, dict]`): the run's evaluations; the first is looked at.

    Returns:
        `dict`: `kind` ("group", or "class" without attributes), `name`, `accuracy` in per cent, `count` of its rows,
        `interval`, `split` and `few`, whether the rows are too few to judge by; None without an evaluation.
    """
    if not evaluations:
        return None
    prefix, result = next(iter(evaluations.items()))
    group = min((g for g in result["groups"] if g["count"]), key=lambda g: g["accuracy"])
    groups = record.run.has_attributes
    return {
        "kind": "group" if groups else "class",
        "name": plain(group_title(group["label"], group["attribute"]) if groups else group["label"]),
        "accuracy": f"{100 * group['accuracy']:.1f}",
        "count": f"{group['count']:,}",
        "interval": f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}",
        "split": set_name(prefix),
        "few": group["count"] < SMALL_GROUP,
    }


def intended_use(record: RunRecord) -> str:
    """Return what the model is for: its classes, and on what it was judged.

    Args:
        record ([`RunRecord`]): the run.
    """
    names = (record.train_groups or {}).get("label_names")
    if names is None:
        result: dict[str, Any] = next(iter(record.evaluations.values()), {"groups": []})
        names = list(dict.fromkeys(str(group["label"]) for group in result["groups"]))
    more = f" and {len(names) - MAX_TABLE_GROUPS} more" if len(names) > MAX_TABLE_GROUPS else ""
    classes = f"{len(names)} classes ({', '.join(map(plain, names[:MAX_TABLE_GROUPS]))}{more})" if names else "classes"
    purpose = ", where a spurious attribute must not decide" if record.run.trained and not record.run.plain else ""
    judged = "It was judged on the groups below and on no others" if record.evaluations else "It was not judged"
    judged += ": evaluate it on your own groups before you rely on it."
    return f"Choosing one of {classes} for inputs like those it was trained on{purpose}. {judged}"


def training_picture(folder: str) -> dict[str, str] | None:
    """Return the file name of the training's picture and the text in its place, or None if there is no such file.

    Args:
        folder (`str`): the run's folder.
    """
    if not os.path.isfile(os.path.join(folder, TRAINING_PICTURE_FILE)):
        return None
    return {"file": TRAINING_PICTURE_FILE, "alt": "Losses and accuracies over training"}


def comparison_part(folder: str) -> dict[str, Any] | None:
    """Return the table of methods that lies in a run's folder.

    Args:
        folder (`str`): the run's folder; `comparison.json` is read from it.

    Returns:
        `dict`: `note`, `text` and the file name of the `picture`, if there is one; None without other methods.
    """
    path = os.path.join(folder, COMPARISON_FILE)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    methods = runs_by_method(results)
    if len(methods) < 2:
        return None
    seeds = [str(run["seed"]) for run in next(iter(methods.values()))]
    runs = f"one run of each method, with the seed {seeds[0]}"
    if len(seeds) > 1:
        runs = f"mean ± deviation over runs with the seeds {', '.join(seeds)}"
    has_picture = os.path.isfile(os.path.join(folder, COMPARISON_PICTURE_FILE))
    return {
        "note": f"On the same test set; {runs}.",
        "text": as_markdown(format_comparison(results, plain)) + _ranked(results.get(RANKING)),
        "picture": COMPARISON_PICTURE_FILE if has_picture else None,
    }


def _ranked(ranking: dict[str, Any] | None) -> str:
    """Return what a card says below the table of methods: which is best, and which cannot be told apart from it."""
    return "" if not ranking else "\n\n" + "\n".join(plain(one) for one in ranking["said"])


def known_limits(evaluations: Evaluations) -> list[str]:
    """Return the card's warnings: groups of few or no rows, and what nobody looked at.

    Args:
        evaluations (`dict[str, dict]`): the run's evaluations; the first tells which groups had few training rows.
    """
    limits = []
    for prefix, result in evaluations.items():
        if prefix == "train":
            continue
        small = [g for g in result["groups"] if 0 < g["count"] < SMALL_GROUP]
        if small:
            limits.append(
                f"Groups too small to judge in the {set_name(prefix)} (rows): "
                f"{_named(small, 'count')}. Read their intervals."
            )
        absent = [g for g in result["groups"] if not g["count"]]
        if absent:
            limits.append(f"Groups not judged, without rows in the {set_name(prefix)}: {_named(absent)}.")
        unseen = [g for g in result["groups"] if g["count"] and g.get("train_count") == 0]
        if unseen:
            limits.append(f"Groups without training rows: {_named(unseen)}.")
    first: dict[str, Any] = next(iter(evaluations.values()), {"groups": []})
    few = [g for g in first["groups"] if 0 < g.get("train_count", 0) < SMALL_GROUP]
    if few:
        limits.append(f"Groups with few training rows to learn from: {_named(few, 'train_count')}.")
    limits.append("Attributes other than those in the tables were not looked at; the model may fail on their groups.")
    limits.append("An accuracy on this data says little about data from elsewhere.")
    return limits


def _named(groups: list[dict[str, Any]], count: str | None = None) -> str:
    """Return the names of groups, each with its number of rows if `count` says under which key that is."""
    names = [
        plain(group_title(g["label"], g["attribute"])) + (f": {g[count]}" if count is not None else "") for g in groups
    ]
    hidden = len(names) - MAX_TABLE_GROUPS
    more = [f"and {hidden} more, which are in {GROUP_METRICS_FILE}"] if hidden > 0 else []
    return "; ".join([*names[:MAX_TABLE_GROUPS], *more])


def method_text(record: RunRecord) -> str:
    """Return the method in words: the plan's, or the name of a trainer that adds something to its plan.

    Args:
        record ([`RunRecord`]): the run.
    """
    run = record.run
    return PLAN_TITLES[run.plan] if run.trainer == ORIGINAL_TRAINER else f"{run.trainer} on the plan {run.plan}"


def method_table(record: RunRecord) -> str:
    """Return the Markdown table of the method: c, beta and its bounds, rows of a step, training time.

    Args:
        record ([`RunRecord`]): the run.
    """
    method = record.method
    if method is None or not record.run.trained:
        return "The model was not trained here."
    rows = [["method", method_text(record)]]
    if method["plan"] in PLANS_WITH_BETA:
        upper = method["beta_bounds"][1]
        bounded = upper is not None and upper != float("inf")  # in JSON there is no infinity
        rows += [
            ["c, degree of bias reduction", f"{method['c']:g}"],
            ["beta, extrapolation factor", f"{method['beta']:g} ({method['beta_schedule']})"],
            ["bounds of beta", f"-1 to {upper:.3g}" if bounded else "-1, no upper bound"],
        ]
    rows.append(["rows a step and device", _rows_text(method)])
    rows.append(["training time", _training_time(record)])
    return format_table(["", "value"], rows)


def _rows_text(method: dict[str, Any]) -> str:
    """Return the rows of a step and, where the halves are unequal, how many are of the biased batch."""
    rows, share = method["rows_per_device"], method.get("biased_share")
    return str(rows) if share in (None, 0.5) else f"{rows}, {method['segments'][0]['rows']} of them biased"


def _training_time(record: RunRecord) -> str:
    """Return the number of steps, the devices and the seconds of the training."""
    run = record.run
    return f"{run.steps} steps on {run.devices}" + (f", {run.seconds:.0f} s" if run.seconds else "")


def data_text(record: RunRecord, evaluations: Evaluations, given: dict[str, Any]) -> str:
    """Return name, place, commit, rows and licence of the data, as far as they are known.

    Args:
        record ([`RunRecord`]): the run.
        evaluations (`dict[str, dict]`): the run's evaluations.
        given (`dict`): `dataset`, `dataset_tags`, `dataset_revision` and `dataset_license`, each optional.
    """
    place = [code(tag) for tag in ([given["dataset_tags"]] if isinstance(given.get("dataset_tags"), str) else ())]
    place += [f"commit {code(given['dataset_revision'])}"] if given.get("dataset_revision") else []
    names = [given["dataset"]] if isinstance(given.get("dataset"), str) else given.get("dataset")
    named = ", ".join(map(plain, names)) if names else place.pop(0) if place else "not named"
    rows = [] if record.run.train_rows is None else [f"{record.run.train_rows:,} training rows"]
    if record.run.streamed:
        rows = [f"a stream of training rows, whose groups were counted in {record.run.train_rows:,} rows"]
    for prefix, result in evaluations.items():
        if prefix != "train" and not record.run.overlapping_columns:  # else a row counts several times
            rows.append(f"{sum(g['count'] for g in result['groups']):,} rows in the {set_name(prefix)}")
    license = f" Licence of the data: {plain(given['dataset_license'])}." if given.get("dataset_license") else ""
    named += f" ({', '.join(place)})" if place else ""
    return f"Data: {', '.join([named, *rows])}.{license}"


def attributes_text(record: RunRecord, source: str | None = None) -> str:
    """Return where the attributes come from, and whether the training used them.

    Args:
        record ([`RunRecord`]): the run.
        source (`str`, *optional*): who or what says which attribute a row has.
    """
    source = f": {prose(source)}." if source else ". Who or what says which value a row has was not told."
    if record.run.overlapping_columns:
        judged = ", ".join(map(code, record.run.overlapping_columns))
        source += (
            f" The groups of the tables overlap: a row counts in that of each of the columns {judged} that it has."
        )
    columns = ", ".join(map(code, record.run.attribute_columns))
    if record.pseudo_attributes is not None:
        known = f"The column {columns} was read for evaluation only" + source
        known = known if columns else "Nor does the evaluation: the groups of the tables are the classes."
        if record.pseudo_attributes.get("rule") == "validation_attributes":
            known = f"The column {columns} was read in the validation set and for evaluation only" + source
        balanced = (record.method or {}).get("class_balanced", True)
        return f"Training used no attribute labels{inferred_text(record.pseudo_attributes, balanced)} {known}"
    if not columns:
        return "No attribute labels were used: the groups of the tables are the classes."
    if record.run.plain:
        return f"Training used no attribute labels. The column {columns} was read for evaluation only{source}"
    return f"Attributes are those of the data set's column {columns}{source}"


def inferred_text(pseudo: dict[str, Any], class_balanced: bool = True) -> str:
    """Return how groups were inferred without attribute labels, how much was found, and what the run warned of.

    Args:
        pseudo (`dict`): what the record says of unknown attributes.
        class_balanced (`bool`, defaults to `True`): whether classes were drawn equally often.

    Returns:
        `str`: goes on from "Training used no attribute labels".
    """
    rule, threshold, classes = pseudo.get("rule"), pseudo["threshold"], pseudo.get("classes") or []
    if rule is None and threshold is None:
        return ", but the errors of a biased model."
    if rule in (None, "threshold"):
        text = (
            f": of each class the share {threshold:g} of rows that a biased model was least sure of formed one "
            "pseudo-group, the rest the other."
        )
    elif rule == "validation_attributes":
        text = (
            " of training rows: the attribute of each was predicted by a linear model of the validation rows, on "
            f"features of biased models (rule `{rule}`)."
        )
    else:
        text = (
            f": the rows of a class {_HARD_ROWS[rule]} formed one inferred group, the rest the other (rule `{rule}`)."
        )
    split = [part for part in classes if part["hard"]]
    if split and rule != "threshold":
        rows, few = sum(part["rows"] for part in classes), sum(part["hard"] for part in split)
        text += f" {few:,} of {rows:,} rows, in {len(split)} of {len(classes)} classes, were taken for a minority."
    elif classes and not split:
        text += f" No class was split, so training was {'class-balanced ' if class_balanced else ''}ERM."
    warnings = " ".join(plain(warning).rstrip(".") + "." for warning in pseudo.get("warnings") or [])
    return text + (f" The run warned: {warnings}" if warnings else "")


_HARD_ROWS = {
    "validation_shift": "that are like those which the validation set has more of than the training set",
    "confident_mistakes": "to whose label biased models gave less than half of an even probability",
    "mistakes": "that biased models took for another class",
}


def selection_text(record: RunRecord) -> str:
    """Return which step's weights these are, and how the method's settings were chosen.

    Args:
        record ([`RunRecord`]): the run.
    """
    if not record.run.trained:
        return "The weights are those that were given: nothing was trained here."
    chosen = record.selection
    if chosen is None or record.run.evaluation_sets is None:
        return "There was no evaluation set to select on: these are the weights of the last step."
    prefix, metric = _selected_on(record, chosen["metric"])
    compared_on = f"the {set_name(prefix)}'s {metric_title(metric)}"
    settings = _search_text(chosen.get("search"), compared_on)
    settings = " ".join([*fault_sentences(chosen), settings])
    if not record.evaluations:
        settings += " Nothing was evaluated, so there are no figures."
    if not chosen["best_model_loaded"]:
        return f"The weights are those of the last step ({chosen['step']}); no step was selected. {settings}"
    return f"The weights are those of step {chosen['step']}, selected on {compared_on}. {settings}"


def _search_text(search: dict[str, Any] | None, compared_on: str) -> str:
    """Return which settings a search has chosen, and in how many trials."""
    if search is None:
        return "The method's settings were given, not searched for in this run."
    return f"{', '.join(search['names'])} were chosen by {search['trials']} trials, compared on {compared_on}."
