"""`GroupReport`: the groups of one evaluation as a table, a data frame, a picture, JSON and a page.

Imports `evaluation/`, `data/` for files of predictions, and the record and tables of this room; pandas, matplotlib and
rich only when they are needed. `gerne-hf evaluate` shows one, and `trainer.group_report()` returns one.
"""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ..evaluation.metrics import group_metrics
from ..evaluation.names import SUMMARY_TITLES
from ..groups.names import group_title
from .record import COMPARISON_PICTURE_FILE, GROUP_METRICS_FILE, ModelFacts, RunFacts, RunRecord
from .scores_table import format_score_table
from .tables import format_group_table
from .terminal import as_text, parts_of, table_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderResult

GROUP_COLUMNS = ("label", "attribute", "train_count", "count", "accuracy", "ci_low", "ci_high")
"""Columns of [`GroupReport.to_pandas`], as far as they are known."""


class GroupReport:
    """The accuracy of each group of an evaluation, with the summaries, to be shown and saved.

    Args:
        result (`dict`): what [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) returned.
        name (`str`, *optional*, defaults to `"predictions"`): what was judged: a model, or a file of predictions.
        split (`str`, *optional*, defaults to `"test"`): the rows that it was judged on: "test", "eval" for a
            validation set, "train".

    Example:

    ```python
    >>> report = GroupReport.from_predictions(["a", "a", "b"], ["a", "b", "b"], ["sea", "land", "sea"])
    >>> report.result["worst_group"], len(report.to_pandas())
    ('(b, land)', 4)

    ```
    """

    def __init__(self, result: dict[str, Any], name: str = "predictions", split: str = "test"):
        self.result, self.name, self.split = result, name, split

    @classmethod
    def from_predictions(
        cls,
        predictions: ArrayLike,
        references: ArrayLike,
        attributes: ArrayLike,
        name: str = "predictions",
        **settings: Any,
    ) -> "GroupReport":
        """Judge predictions that are in memory.

        Args:
            predictions, references, attributes: as for [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics):
                lists, arrays, or columns of a data frame, of names or ids.
            name (`str`, *optional*): what made the predictions.
            settings: the other arguments of `group_metrics`, such as `extra_metrics`.

        Raises:
            ValueError: as `group_metrics`.
        """
        return cls(group_metrics(predictions, references, attributes, **settings), name)

    @classmethod
    def from_file(cls, path: str | os.PathLike, **settings: Any) -> "GroupReport":
        """Judge the predictions in a file, of any size.

        Args:
            path (`str`): a `.csv`, `.tsv`, `.jsonl` or `.parquet` file.
            settings: arguments of
                [`evaluate_prediction_file`](gerne_hf.data.prediction_files.evaluate_prediction_file), such as
                `attribute_columns`.

        Raises:
            FileNotFoundError, ValueError: as `evaluate_prediction_file`.
        """
        from ..data.prediction_files import evaluate_prediction_file

        return cls(evaluate_prediction_file(path, **settings), Path(path).name)

    @property
    def worst_group(self) -> str:
        """`str`: the group with the lowest accuracy, as "(label, attribute)"."""
        return str(self.result["worst_group"])

    def summaries(self) -> dict[str, float]:
        """Return the summaries of all groups by the words of tables: average, group-balanced, worst group.

        Returns:
            `dict[str, float]`: fractions in [0, 1].
        """
        return {title: self.result[key] for key, title in SUMMARY_TITLES.items() if key in self.result}

    def table(self) -> str:
        """Return the table of groups as Markdown, in per cent, with a line of summaries below it."""
        scores = format_score_table(self.result)
        left_out = self.result.get("rows_left_out")
        lines = [format_group_table(self.result), scores]
        lines.append(f"Rows left out, as they lack a value: {left_out:,}." if left_out else "")
        return "\n".join(line for line in lines if line)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the groups as a data frame, one a row: label, attribute, rows, accuracy and its 95 % interval.

        Accuracies are fractions in [0, 1], and NaN for a group without rows.
        """
        import pandas as pd

        groups = self.result["groups"]
        columns = [name for name in GROUP_COLUMNS if any(name in group for group in groups)]
        frame = pd.DataFrame([[group.get(name) for name in columns] for group in groups], columns=columns)
        return frame.astype({"accuracy": float, "ci_low": float, "ci_high": float})

    def plot(self, path: str | os.PathLike) -> str:
        """Draw the accuracy of each group with its 95 % interval.

        Args:
            path (`str`): the picture's file; its ending gives the format.

        Returns:
            `str`: the path.

        Raises:
            ImportError: without matplotlib: `pip install "gerne_hf[plots]"`.
        """
        try:
            from .plots import plot_comparison
        except ImportError as error:
            raise ImportError('pictures need matplotlib: pip install "gerne_hf[plots]"') from error
        plot_comparison({self.name: self.result}, os.fspath(path))
        return os.fspath(path)

    def record(self) -> RunRecord:
        """Return the report as the record of a run that trained nothing, which pages and cards read."""
        attributes = list(dict.fromkeys(str(group["attribute"]) for group in self.result["groups"]))
        run = RunFacts(
            trainer="",
            plan="erm",
            steps=0,
            seconds=None,
            devices="",
            processes=1,
            evaluation_sets=[],
            train_rows=None,
            streamed=False,
            attribute_columns=["attribute"] if attributes else [],
            overlapping_columns=[],
            data_origin=None,
            hub_id=None,
        )
        model = ModelFacts(name=self.name, task=None, base=None, adapter=False, timm=False, own=False)
        return RunRecord(model=model, run=run, evaluations={self.split: self.result})

    def save(self, folder: str | os.PathLike) -> list[str]:
        """Write `group_metrics.json`, the picture `comparison.png` and the page `_report.html` into a folder.

        The picture is left out where matplotlib is missing.

        Args:
            folder (`str`): made if there is none.

        Returns:
            `list[str]`: the files that were written.

        Raises:
            ValueError: for a folder that holds the record of a training, which would be lost.
        """
        from .page import write_report

        check_no_training(folder)
        written = [self.record().save(folder)]
        try:
            written.append(self.plot(os.path.join(folder, COMPARISON_PICTURE_FILE)))
        except ImportError:
            pass  # pictures are an extra of the package
        return [*written, write_report(folder)]

    def __str__(self) -> str:
        """Return the tables as they look on a terminal."""
        drawn = (as_text(table_of(part)) if isinstance(part, list) else part for part in parts_of(self.table()))
        return "\n".join(drawn)

    def __repr__(self) -> str:
        return f"GroupReport({self.name!r}, worst group {self.worst_group}: {self.result['worst_group_accuracy']:.3f})"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Draw the tables on a terminal, for `rich.print(report)`."""
        for part in parts_of(self.table()):
            yield table_of(part) if isinstance(part, list) else part

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        rows = []
        for group in self.result["groups"]:
            judged = group["accuracy"] is not None
            cells = [
                f"{group['count']:,}",
                f"{100 * group['accuracy']:.1f}" if judged else "–",
                f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}" if judged else "–",
            ]
            name = group_title(group["label"], group["attribute"])
            heavy = ' style="font-weight: bold"' if name == self.worst_group else ""
            data = "".join(f"<td>{cell}</td>" for cell in cells)
            rows.append(f"<tr{heavy}><th>{html.escape(name)}</th>{data}</tr>")
        head = "".join(f"<th>{text}</th>" for text in ("group", "rows", "accuracy, %", "95 % interval"))
        figures = ", ".join(f"{title} {100 * value:.1f} %" for title, value in self.summaries().items())
        return (
            f"<table><caption>{html.escape(self.name)}: {figures}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


def check_no_training(folder: str | os.PathLike) -> None:
    """Refuse a folder that holds the record of a training: its `group_metrics.json` would be overwritten.

    Args:
        folder (`str`): the folder, which need not exist.

    Raises:
        ValueError: names the folder.
    """
    path = Path(folder) / GROUP_METRICS_FILE
    if not path.is_file():
        return
    try:
        trained = RunRecord.load(folder).run.trained
    except (KeyError, TypeError, ValueError):  # not a record of ours, so perhaps somebody's
        trained = True
    if trained:
        raise ValueError(f"{folder} holds a training, whose {GROUP_METRICS_FILE} would be lost. Choose another folder")


def compare_reports(reports: Sequence[GroupReport], path: str | os.PathLike) -> str:
    """Draw the groups of several reports beside each other, such as those of two models on one test set.

    Args:
        reports (`Sequence[GroupReport]`): the reports, each with a name of its own.
        path (`str`): the picture's file.

    Returns:
        `str`: the path.

    Raises:
        ValueError: for reports of the same name, or of other groups than those of the first.
    """
    from .plots import plot_comparison

    names = [report.name for report in reports]
    if len(set(names)) < len(names):
        raise ValueError(f"each report needs a name of its own; found {', '.join(names)}")
    groups = [{(g["label"], g["attribute"]) for g in report.result["groups"]} for report in reports]
    if any(other != groups[0] for other in groups):
        raise ValueError("the reports are of other groups, so they cannot be drawn beside each other")
    plot_comparison({report.name: report.result for report in reports}, os.fspath(path))
    return os.fspath(path)
