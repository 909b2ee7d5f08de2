"""What a comparison answers: methods ranked on the validation set, and the sentences on what the test set shows.

Imports `evaluation/`, `reports/` and [`telling_apart`](gerne_hf.comparison.telling_apart); values in, values out. The
table is drawn by [`reports.ranking_table`](gerne_hf.reports.ranking_table).
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..evaluation.names import metric_title
from ..evaluation.selectable import FEW_ROWS
from ..reports.ranking_table import worst_group_of
from .telling_apart import STATISTICS, Difference, Rows, difference

WORST = "worst_group_accuracy"

Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""By the title of a method, the result of each seed, as `comparison.json` holds it."""


def ranking_metric(chosen: str | None, results: Results) -> str:
    """Return the metric of the validation set that methods are ranked by: the one that models are selected on.

    Args:
        chosen (`str`, *optional*): `metric_for_best_model`, with or without `eval_`.
        results (`Mapping[str, Sequence[dict]]`): by title, the result of each seed with its `validation` figures.

    Returns:
        `str`: `chosen`, if all runs have it; else the worst-group accuracy, which without attributes is that of the
        worst class.
    """
    name = (chosen or WORST).removeprefix("eval_")
    runs = [run for of_method in results.values() for run in of_method]
    return name if all(name in run.get("validation", {}) for run in runs) else WORST


def ranked(
    results: Results,
    rows: Mapping[str, Sequence[Rows | None]],
    metric: str = WORST,
    greater_is_better: bool = True,
    plain: str | None = "ERM",
    fitted_on_validation: Collection[str] = (),
) -> dict[str, Any]:
    """Rank methods on the validation set, and say which of them the test set cannot tell from the first.

    Args:
        results (`Mapping[str, Sequence[dict]]`): by title, the test result of each seed, with `train_seconds`, `seed`
            and `validation` figures.
        rows (`Mapping[str, Sequence[Rows | None]]`): by title and in the same order, the test rows; None where they
            were not kept.
        metric (`str`, *optional*, defaults to `"worst_group_accuracy"`): the figure of the validation set.
        greater_is_better (`bool`, *optional*, defaults to `True`): whether more of it is better.
        plain (`str`, *optional*, defaults to `"ERM"`): title of the method whose gap shows whether there is anything
            to fix.
        fitted_on_validation (`Collection[str]`, *optional*): titles of the methods that are fitted on the validation
            rows, whose figures of these rows say nothing: they come last, and none of them is the best.

    Returns:
        `dict`: `metric`; `order`, the titles, best first; `best`; `statistic`, what was compared on the test set;
        `differences`, by title `difference`, `low` and `high` of how much better the first is; `not_told_apart`,
        `cheapest`, `gap` of ERM, and `said`, the sentences. Without validation figures `best` is None.
    """
    known = {
        title: statistics.fmean(run["validation"][metric] for run in runs)
        for title, runs in results.items()
        if runs and all(run.get("validation", {}).get(metric) is not None for run in runs)
    }
    sign = -1.0 if greater_is_better else 1.0
    order = sorted(known, key=lambda title: (title in fitted_on_validation, sign * known[title]))
    order += [title for title in results if title not in known]
    fitted = [title for title in order if title in fitted_on_validation]
    found: dict[str, Any] = {"metric": metric, "greater_is_better": greater_is_better, "order": order}
    found["fitted_on_validation"] = fitted
    found["statistic"] = statistic = metric if metric in STATISTICS else WORST
    complete = len(known) == len(results) and len(known) > len(fitted)
    best = order[0] if complete else None
    found["best"] = best
    said: list[str] = []
    if best is None:
        said.append(
            "The methods are not ranked: there are no validation figures of all of them, and the test set is not for "
            "choosing."
            if len(known) < len(results)
            else "The methods are not ranked: all of them are fitted on the validation rows."
        )
    elif len(results) > 1:
        told, unknown = _differences(best, results, rows, statistic)
        alike = [title for title in order if title in told and not told[title].is_told]
        found["differences"] = {
            title: {"difference": one.value, "low": one.low, "high": one.high} for title, one in told.items()
        }
        found["not_told_apart"] = alike
        found["unknown"] = unknown
        found["cheapest"] = cheapest = min([best, *alike], key=lambda title: _seconds(results[title]))
        equal = [title for title in order[1:] if known[title] == known[best] and title not in fitted]
        said += _sentences(best, told, alike, unknown, results, rows, statistic, equal)
        if alike:
            said.append(_on_costs(best, cheapest, results))
    if fitted and best is not None:
        are, them = ("is", "it") if len(fitted) == 1 else ("are", "them")
        said.append(
            f"{_listed(fitted)} {are} fitted on the validation rows, so that figures of these rows cannot rank {them}."
        )
    gap = gap_of(results[plain]) if plain is not None and results.get(plain) else None
    if gap is not None:
        found["gap"] = gap
        if gap["none"] and gap["rows"] < FEW_ROWS:
            said.append(
                f"Whether {plain} has a gap cannot be told: its worst group has {gap['rows']} test "
                f"row{'s' if gap['rows'] > 1 else ''}."
            )
        elif gap["none"]:
            said.append(
                f"{plain} shows no gap: its worst group ({_percent(gap['worst'])} %, 95 % interval up to "
                f"{_percent(gap['worst_high'])} %) is not below its average ({_percent(gap['average'])} %) by more "
                "than the interval. There is nothing to fix here."
            )
    found["said"] = said
    return found


def gap_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return whether a method's worst group is below its average by more than the worst group's interval.

    Args:
        runs (`Sequence[dict]`): the method's test result of each seed.

    Returns:
        `dict`: the means over seeds of `average`, `worst` and `worst_high`, the upper end of the worst group's 95 %
        interval; `rows` of the smallest of these; and `none`, whether the average lies below that end.
    """
    worst = [worst_group_of(run) for run in runs]
    average = statistics.fmean(run["accuracy"] for run in runs)
    high = statistics.fmean(group["ci_high"] for group in worst)
    return {
        "average": average,
        "worst": statistics.fmean(group["accuracy"] for group in worst),
        "worst_high": high,
        "rows": min(group["count"] for group in worst),
        "none": average <= high,
    }


def tuned_in_words(tuning: Mapping[str, Mapping[str, Any]], ranking: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a ranking says of the search before it: `tuning`, and the sentences with one more.

    Args:
        tuning (`Mapping[str, dict]`): by title, the `trials` that a method had (0 where there is nothing to tune), and
            the settings that were `chosen`.
        ranking (`dict`): what [`ranked`] returned.
    """
    chosen = [
        f"{title} {', '.join(f'{name} = {_short(value)}' for name, value in one['chosen'].items())}"
        for title, one in tuning.items()
        if one["trials"]
    ]
    most = max(one["trials"] for one in tuning.values())
    said = [f"Chosen on the validation set among {most} trials each: {'; '.join(chosen)}."] if chosen else []
    return {"tuning": {title: dict(one) for title, one in tuning.items()}, "said": [*ranking["said"], *said]}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _differences(
    best: str, results: Results, rows: Mapping[str, Sequence[Rows | None]], statistic: str
) -> tuple[dict[str, Difference], list[str]]:
    """Return by how much the best is better than each other method, and the methods of which nobody can tell."""
    told, unknown = {}, []
    for title in results:
        if title == best:
            continue
        pairs = _pairs(best, title, results, rows)
        if not pairs:
            unknown.append(title)
            continue
        first, second = zip(*pairs, strict=True)
        told[title] = difference(first, second, statistic)
    return told, unknown


def _pairs(
    best: str, title: str, results: Results, rows: Mapping[str, Sequence[Rows | None]]
) -> list[tuple[Rows, Rows]]:
    """Return the test rows of two methods, seed by seed; none unless both have all seeds and the same rows."""
    first = {run["seed"]: kept for run, kept in zip(results[best], rows[best], strict=True)}
    second = {run["seed"]: kept for run, kept in zip(results[title], rows[title], strict=True)}
    pairs = []
    for seed, one in first.items():
        other = second.get(seed)
        if one is None or other is None or not one.same_rows(other):
            return []
        pairs.append((one, other))
    reference = pairs[0][0]
    return pairs if all(reference.same_rows(one) for one, _ in pairs) else []


def _sentences(
    best: str,
    told: Mapping[str, Difference],
    alike: Sequence[str],
    unknown: Sequence[str],
    results: Results,
    rows: Mapping[str, Sequence[Rows | None]],
    statistic: str,
    equal: Sequence[str],
) -> list[str]:
    """Return the sentences on what can be told apart on the test set."""
    said = []
    how = ""
    shared = f", and so {'is' if len(equal) == 1 else 'are'} {_listed(equal)}" if equal else ""
    if told:
        kept = next(one for one in rows[best] if one is not None)
        seeds = len(results[best])
        of_seeds = f" and {seeds} seeds" if seeds > 1 else ", one seed"
        how = f"{metric_title(statistic)}, paired bootstrap over {len(kept.cells):,} rows{of_seeds}"
    others = [title for title in told if told[title].is_told and told[title].low > 0]
    if alike:
        said.append(
            f"{best} is best on the validation set{shared}. On the test set it cannot be told apart from "
            f"{_listed(alike)} ({how})."
        )
    elif told:
        all_of_them = "all others" if len(told) > 1 else next(iter(told))
        said.append(
            f"{best} is best on the validation set{shared}. On the test set it can be told apart from {all_of_them} "
            f"({how})."
        )
    for title in (title for title in told if told[title].high < 0):
        one = told[title]
        said.append(
            f"{title} does better on the test set, by {_percent(-one.value)} points (95 % interval "
            f"{_percent(-one.high)} to {_percent(-one.low)}), which the validation set does not show."
        )
    if alike and others:
        said.append(f"It is better than {_listed(others)} by more than the interval.")
    if unknown:
        said.append(
            f"Whether {best} can be told apart from {_listed(unknown)} is not known: their test rows were not kept, "
            "as of a stream or by an earlier version."
        )
    return said


def _on_costs(best: str, cheapest: str, results: Results) -> str:
    own = _seconds(results[best])
    if cheapest == best:
        return f"{best} is the cheapest of these, {own:.0f} s of training."
    return f"The cheapest of these is {cheapest}: {_seconds(results[cheapest]):.0f} s of training, {best} {own:.0f} s."


def _seconds(runs: Sequence[Mapping[str, Any]]) -> float:
    return statistics.fmean(run["train_seconds"] for run in runs)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _listed(titles: Sequence[str]) -> str:
    *first, last = titles
    return f"{', '.join(first)} and {last}" if first else last
