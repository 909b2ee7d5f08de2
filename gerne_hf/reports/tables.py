"""Tables of groups, methods and trials, and of how well pseudo-attributes find the minority, as Markdown.

Imports `evaluation/`, `groups/` and `utils/`, and the file names in `record.py`. The trainer prints these tables,
[`card_paragraphs`](gerne_hf.reports.card_paragraphs) puts them on cards, and
[`page_parts`](gerne_hf.reports.page_parts) takes the rows of the table of methods from here.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evaluation.metrics import SUMMARY_METRICS, worst_groups
from ..evaluation.names import SUMMARY_TITLES, metric_title, objective_title, shown_in_percent, spaced
from ..evaluation.score_names import EXTRA_METRICS, summary_keys
from ..groups.names import group_title
from ..utils.markdown import format_table
from .ranking_table import RANKING
from .record import COMPARISON_FILE, GROUP_METRICS_FILE, SEARCH_FILE

NO_BETTER_METHOD = "No method is better than class-balanced ERM here"
"""What is said where training with inferred groups does no better than class-balanced ERM on the validation set."""

VERDICT = "verdict"
"""Key of `comparison.json` beside the methods: what is said of them all, where there is something to say."""


def runs_by_method(saved: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the results alone of what `comparison.json` holds: its other keys are said of all methods.

    Args:
        saved (`Mapping[str, Any]`): the contents of the file.

    Example:

    ```python
    >>> runs_by_method({"ERM": [{"accuracy": 0.5}], "verdict": "nothing to fix", "ranking": {}})
    {'ERM': [{'accuracy': 0.5}]}

    ```
    """
    return {method: runs for method, runs in saved.items() if method not in (VERDICT, RANKING)}


MAX_TABLE_TRIALS = 20
"""Trials that the table of a search shows; `search.json` has all."""


def format_group_table(result: dict[str, Any], shown: Callable[[str], str] = str) -> str:
    """Return the group table of an evaluation: accuracies in per cent with their 95 % intervals.

    Args:
        result (`dict`): what [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) returned.
        shown (`Callable`, *optional*): how a name is written; as it is if not given, as on a terminal. Cards take
            [`plain`](gerne_hf.utils.markdown.plain).

    Returns:
        `str`: a Markdown table of the groups (the 24 worst, where there are more), and a line of summaries.

    Example:

    ```python
    >>> from gerne_hf.evaluation.metrics import group_metrics
    >>> text = format_group_table(group_metrics([0, 0, 1], references=[0, 0, 1], attributes=[0, 1, 1]))
    >>> table, summaries = text.rsplit("\\n", 1)
    >>> print(table)
    | group  | rows | accuracy | 95 % interval |
    |--------|-----:|---------:|--------------:|
    | (0, 0) |    1 |    100.0 | 20.7 to 100.0 |
    | (0, 1) |    1 |    100.0 | 20.7 to 100.0 |
    | (1, 0) |    0 |        - |             - |
    | (1, 1) |    1 |    100.0 | 20.7 to 100.0 |

    ```
    """
    trained = any("train_count" in group for group in result["groups"])
    header = ["group", *(["train rows"] if trained else []), "rows", "accuracy", "95 % interval"]
    rows = []
    places, hidden = worst_groups(result["groups"])
    for group in (result["groups"][i] for i in places):
        judged = group["accuracy"] is not None
        rows.append(
            [
                shown(group_title(group["label"], group["attribute"])),
                *([f"{group['train_count']:,}"] if trained else []),
                f"{group['count']:,}",
                f"{100 * group['accuracy']:.1f}" if judged else "-",
                f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}" if judged else "-",
            ]
        )
    figures = (f"{spaced(name)} {100 * result[name]:.1f}" for name in SUMMARY_METRICS if name in result)
    more = f"{hidden} groups with higher accuracy are in {GROUP_METRICS_FILE}.\n" if hidden else ""
    return f"{format_table(header, rows)}\n{more}{', '.join(figures)} (worst group: {shown(result['worst_group'])})"


def format_recovery(table: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of how much of the minority the pseudo-attributes find, shares in per cent.

    Args:
        table (`Sequence[dict]`): what [`PseudoAttributes.recovery`] returned: `threshold`, `hard_rows`, and
            `precision` and `recall` as shares, or None where there are no such rows.

    Example:

    ```python
    >>> print(format_recovery([{"threshold": 0.01, "hard_rows": 12, "precision": 0.5, "recall": None}]))
    | threshold t | hard rows | precision, % | recall, % |
    |-------------|----------:|-------------:|----------:|
    | 0.01        |        12 |         50.0 |         - |

    ```
    """
    rows = [
        [
            f"{entry['threshold']:g}",
            f"{entry['hard_rows']:,}",
            *("-" if entry[name] is None else f"{100 * entry[name]:.1f}" for name in ("precision", "recall")),
        ]
        for entry in table
    ]
    return format_table(["threshold t", "hard rows", "precision, %", "recall, %"], rows)


def format_comparison(results: dict[str, list[dict[str, Any]]], shown: Callable[[str], str] = str) -> str:
    """Return one Markdown table of several methods: a column a method, a row a summary or a group, in per cent.

    Args:
        results (`dict[str, list[dict]]`): by method, the test result of [`group_metrics`] of each seed, with its
            `train_seconds`. With several seeds the cells are means with their deviations. The key `verdict`, if it is
            there, has a sentence that is put below the table.
        shown (`Callable`, *optional*): how a name is written, as for [`format_group_table`].
    """
    header, rows, hidden = comparison_rows(results)
    header = [shown(name) for name in header]
    table = format_table(header, [[shown(row[0]), *row[1:]] for row in rows])
    table += f"\n{hidden} groups in which {header[-1]} does better are in {COMPARISON_FILE}." if hidden else ""
    return table + (f"\n{shown(str(results[VERDICT]))}." if results.get(VERDICT) else "")


def comparison_rows(results: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[list[str]], int]:
    """Return header and rows of the table of [`format_comparison`], and the number of groups that it leaves out.

    Args:
        results (`dict[str, list[dict]]`): as for [`format_comparison`].
    """
    results = runs_by_method(results)
    first = next(iter(results.values()))[0]
    main_runs = list(results.values())[-1]
    summaries = {key: title for key, title in SUMMARY_TITLES.items() if key in first}
    rows = [[title, *(_cell([r[key] for r in runs]) for runs in results.values())] for key, title in summaries.items()]
    shown, hidden = worst_groups(main_runs[0]["groups"])
    for i in shown:
        group = first["groups"][i]
        if not group["count"]:
            continue
        trained = f", {group['train_count']:,} train rows" if "train_count" in group else ""
        cells = [_cell([run["groups"][i]["accuracy"] for run in runs]) for runs in results.values()]
        rows.append([f"{group_title(group['label'], group['attribute'])}{trained}", *cells])
    everywhere = set.intersection(*(set(run) for runs in results.values() for run in runs))
    for key in (key for name in EXTRA_METRICS for key in summary_keys(name) if key in everywhere):
        values = ([run[key] for run in runs] for runs in results.values())
        rows.append([metric_title(key), *("-" if None in cell else _cell(cell) for cell in values)])
    rows.append(["training time, s", *(_mean([r["train_seconds"] for r in runs]) for runs in results.values())])
    return ["accuracy, %", *results], rows, hidden


def _cell(values: list[float]) -> str:
    """Return the mean, and the sample deviation where there is more than one run, in per cent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean}±{100 * statistics.stdev(values):.1f}"


def _mean(values: list[float]) -> str:
    """Return the mean as a whole number."""
    return f"{statistics.fmean(values):.0f}"


def seed_note(seeds: Sequence[int]) -> str:
    """Return what a table of methods says of its seeds.

    Args:
        seeds (`Sequence[int]`): the seeds; of several, the table has means and deviations.

    Example:

    ```python
    >>> seed_note([42]), seed_note([0, 1])
    ('seed 42', 'mean ± deviation over the seeds 0, 1')

    ```
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean ± deviation over the seeds {', '.join(map(str, seeds))}"


def format_search_table(records: list[dict[str, Any]], objective: str) -> str:
    """Return a Markdown table of the trials of a search, the best first, then those that did not complete.

    Args:
        records (`list[dict]`): trials in this order, as [`trial_records`] gives them; at most 20 are shown. Where some
            were not drawn, a last column says what their settings are.
        objective (`str`): its name; accuracies are shown in per cent.
    """
    percent = shown_in_percent(objective)
    names = list(dict.fromkeys(name for record in records for name in record["params"]))
    marked = any("start" in record for record in records)
    rows = []
    for record in records[:MAX_TABLE_TRIALS]:
        value = record["value"]
        shown = "-" if value is None else f"{100 * value:.1f}" if percent else f"{value:.4g}"
        seconds = "-" if record["seconds"] is None else f"{record['seconds']:.0f}"
        drawn = [_short(record["params"].get(name, "-")) for name in names]
        what = [record.get("start", "drawn")] if marked else []
        rows.append([record["number"], *drawn, shown, record["state"], seconds, *what])
    last = ["settings"] if marked else []
    table = format_table(["trial", *names, objective_title(objective), "state", "seconds", *last], rows)
    hidden = len(records) - MAX_TABLE_TRIALS
    return table + (f"\n{hidden} further trials are in {SEARCH_FILE}." if hidden > 0 else "")


def _short(value: Any) -> str:
    """Return a setting's value with four digits at most."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
