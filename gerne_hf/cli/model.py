"""A model's predictions on a split of a data set, as a report of groups: `gerne-hf evaluate --model`.

Imports `data/`, `groups/` and `reports/`; the model is loaded and run by a pipeline of Transformers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
from transformers import pipeline

from ..data.splits import load_any
from ..groups.columns import encode_column
from ..groups.names import combined_name
from ..hub.repositories import found_by
from ..models.mlp import MLPConfig
from ..reports.group_report import GroupReport
from .columns import input_columns

OWN_MODELS = (MLPConfig.model_type,)
"""Kinds of models that are this package's own; pipelines know them once they are imported."""


def judge(
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
    splits = load_any(dataset, dataset_config, "dataset")
    if split not in splits:
        raise ValueError(f"{dataset} has no split {split!r}: it has {', '.join(splits)}. Name one with --split")
    rows = splits[split]
    texts, image = input_columns(rows, text_columns, image_column, [label_column, *attribute_columns], dataset)
    with found_by("model", model):
        pipe: Any = _pipeline(image is not None, model=model, batch_size=batch_size)
    names = [str(name) for _, name in sorted(pipe.model.config.id2label.items())]
    labels = labels_of_model(rows, label_column, names, model)
    columns = [np.array(_names(rows, column, "attribute"), dtype=object) for column in attribute_columns]
    attributes = [combined_name(values) if len(values) > 1 else values[0] for values in zip(*columns, strict=True)]
    probabilities = np.zeros((len(rows), len(names)))
    place = {name: i for i, name in enumerate(names)}
    more = {"function_to_apply": "softmax", "top_k": None if texts else len(names)}
    if texts:
        more["truncation"] = True
    outputs = pipe(_inputs(rows, texts, image), **more)
    for i, scores in enumerate(
        datasets.utils.tqdm(outputs, total=len(rows), desc="Predicting", unit=" rows", disable=None)
    ):
        for entry in scores:
            probabilities[i, place[entry["label"]]] = entry["score"]
    return GroupReport.from_predictions(
        probabilities, labels, attributes, name=model, label_names=names, extra_metrics=extra_metrics
    )


def _pipeline(images: bool, **settings: Any) -> Any:
    """Return the pipeline that classifies images, or texts."""
    return pipeline("image-classification", **settings) if images else pipeline("text-classification", **settings)


def _inputs(rows: datasets.Dataset, texts: Sequence[str], image: str | None) -> Iterator[Any]:
    """Yield what the pipeline takes: images, texts, or pairs of texts."""
    for row in rows.select_columns([image] if image else list(texts)):
        if image:
            yield row[image]
        elif len(texts) == 1:
            yield row[texts[0]]
        else:
            yield {"text": row[texts[0]], "text_pair": row[texts[1]]}


def _names(rows: datasets.Dataset, column: str, role: str) -> list[str]:
    """Return the value of each row as a name."""
    codes, values = encode_column(rows, column, role)
    return [str(values[code]) for code in codes]


def labels_of_model(rows: datasets.Dataset, column: str, names: Sequence[str], model: str) -> np.ndarray:
    """Return the label of each row as the model numbers its classes.

    Labels that have names are matched by them. Labels that are mere numbers, or a model whose classes are called
    LABEL_0 and so on, say nothing but the numbers; these are taken then, and it is printed.

    Args:
        rows (`datasets.Dataset`): the rows.
        column (`str`): column of the labels.
        names (`Sequence[str]`): the model's classes in the order of their ids.
        model (`str`): its name, for messages.

    Returns:
        `np.ndarray` of shape `(N,)`, int64

    Raises:
        ValueError: for labels that the model does not have; names both.
    """
    own = _names(rows, column, "label")
    found = sorted(set(own))
    place = {name: i for i, name in enumerate(names)}
    if set(found) <= set(place):
        return np.array([place[name] for name in own], dtype=np.int64)
    lower = {name.lower(): i for i, name in enumerate(names)}
    if {name.lower() for name in found} <= set(lower) and len(lower) == len(names):
        return np.array([lower[name.lower()] for name in own], dtype=np.int64)
    feature = rows.features[column]
    named = isinstance(feature, datasets.ClassLabel)
    by_number = all(name.isdecimal() for name in found) or all(
        name.upper() == f"LABEL_{i}" for name, i in place.items()
    )
    ids = np.asarray(rows[column][:]) if named or all(name.isdecimal() for name in found) else None
    if by_number and ids is not None and ids.min() >= 0 and ids.max() < len(names):
        classes = feature.names if named else [str(i) for i in range(len(names))]
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(classes, names, strict=False))
        print(f"The labels are matched by their numbers, as nothing else tells: {pairs}.", flush=True)
        return ids.astype(np.int64)
    raise ValueError(
        f"the labels {', '.join(map(repr, found[:20]))} of the column {column!r} are not the classes of {model}: "
        f"{', '.join(map(repr, names[:20]))}. Rename the classes of one of them"
    )
