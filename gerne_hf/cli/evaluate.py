"""`gerne-hf evaluate`: the groups of a file of predictions, or of a model on a data set.

Imports `reports/`; for a model `data/`, `models/` and the trainer, when it is needed. The options are in
[`app`](gerne_hf.cli.app).
"""

import os
from collections.abc import Sequence
from typing import Any

from ..reports.group_report import GroupReport
from ..reports.terminal import show


def evaluate_file(path: str, **settings: Any) -> GroupReport:
    """Return the report of a file of predictions.

    Args:
        path (`str`): the file.
        settings: arguments of [`evaluate_prediction_file`](gerne_hf.data.prediction_files.evaluate_prediction_file).
    """
    return GroupReport.from_file(path, **settings)


def evaluate_model(
    model: str,
    dataset: str,
    dataset_config: str | None,
    split: str,
    label_column: str,
    attribute_columns: Sequence[str],
    text_columns: Sequence[str],
    image_column: str | None,
    extra_metrics: Sequence[str],
    batch_size: int,
) -> GroupReport:
    """Return the report of a model on a split of a data set; nothing is trained.

    Args:
        model (`str`): Hub id or folder of a classifier of Transformers or timm, or of an adapter of PEFT.
        dataset (`str`): Hub id, folder or file.
        dataset_config (`str`, *optional*): the data set's configuration on the Hub.
        split (`str`): the split that is evaluated.
        label_column (`str`), attribute_columns (`Sequence[str]`): the columns of labels and attributes.
        text_columns (`Sequence[str]`), image_column (`str`, *optional*): what the model is given; found by themselves
            where the data have one column of texts or images alone.
        extra_metrics (`Sequence[str]`): metrics beyond accuracy.
        batch_size (`int`): rows of a batch.

    Raises:
        OSError: if there is no such model or data set.
        ValueError: for columns or a split that are not there, and labels that the model does not have.
    """
    from .model import judge

    return judge(
        *(model, dataset, dataset_config, split),
        label_column=label_column,
        attribute_columns=attribute_columns,
        text_columns=text_columns,
        image_column=image_column,
        extra_metrics=extra_metrics,
        batch_size=batch_size,
    )


def show_report(report: GroupReport, folder: str | None) -> None:
    """Print the table of a report, and write JSON, picture and page where a folder is given.

    Args:
        report ([`GroupReport`]): the report.
        folder (`str`, *optional*): where to write.
    """
    show(f"{report.name}\n{report.table()}")
    if folder is not None:
        *_, page = report.save(folder)
        say_page(page)


def say_page(path: str) -> None:
    """Print where a page is, and how large."""
    print(f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)")
