"""Frozen backbones in image recipes: their features are computed once for all runs, where these cannot change.

Imports `data`, `models` and `arguments.py`. [`images`](gerne_hf.recipes.images) makes the trainers.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import default_collate
from transformers import PreTrainedModel

from ..config import GerneConfig
from ..data.features import FEATURES_FOLDER, feature_rows
from ..models.frozen import backbone_checksum, train_on_features, trains_head_alone, why_features_change
from ..models.heads import freeze_batch_norm, freeze_layers
from ..models.images import ImageBackbone
from .arguments import ImageArguments

_TRIED_ROWS = 4


def frozen_model(
    arguments: ImageArguments, backbone: ImageBackbone, names: Sequence[str], on_features: bool = False
) -> PreTrainedModel:
    """Make a model with the layers frozen that the arguments name.

    Args:
        arguments ([`ImageArguments`]): the recipe's arguments, of which `frozen_layers` and `freeze_batch_norm` are
            used.
        backbone ([`ImageBackbone`]): the backbone.
        names (`Sequence[str]`): the classes in the order of their ids.
        on_features (`bool`, *optional*, defaults to `False`): whether it is trained on features.

    Returns:
        [`~transformers.PreTrainedModel`]

    Raises:
        ValueError: for a layer that the model does not have, and if nothing is left to train.
    """
    model = freeze_layers(backbone.make_model(names), arguments.frozen_layers or [])
    if arguments.freeze_batch_norm:
        freeze_batch_norm(model)
    return train_on_features(model) if on_features else model


def with_features(
    arguments: ImageArguments, config: GerneConfig, backbone: ImageBackbone, data: dict[str, Any]
) -> dict[str, Any]:
    """Return data sets with the features of a backbone that is frozen but for its head, or the data sets as they are.

    All runs of a comparison share the features, and later commands find them in `features_dir`. Where all layers but
    the head are frozen and features change from epoch to epoch all the same, this is said in one line.

    Args:
        arguments ([`ImageArguments`]): the recipe's arguments.
        config ([`GerneConfig`]): the recipe's settings: device, precision, and where files are written. With features
            no workers prepare the rows, unless the arguments say how many do.
        backbone ([`ImageBackbone`]): the backbone.
        data (`dict`): data sets by name, `train` among them, with rows of `pixel_values` and `label`.

    Returns:
        `dict[str, Any]`: by the same names, rows with features in place of images, or the data sets that were given.

    Raises:
        FolderInUseError: as [`feature_rows`].
    """
    if not arguments.cache_features or not arguments.frozen_layers:
        return data
    names = class_names(data["train"], config)
    model = frozen_model(arguments, backbone, names)
    if not trains_head_alone(model):
        return data
    checksum = backbone_checksum(model)
    torch.nn.Module.to(model, config.device)
    reason = _why_not(model, data["train"])
    if reason is None and backbone_checksum(frozen_model(arguments, backbone, names)) != checksum:
        reason = "the backbone's weights are drawn at random for each run"
    if reason is not None:
        PartialState().print(f"Each epoch runs the frozen layers, whose features are not computed once, as {reason}.")
        return data
    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else None
    folder = arguments.features_dir or os.path.join(config.folder, FEATURES_FOLDER)
    settings: dict[str, Any] = {"num_workers": config.dataloader_num_workers, "dtype": dtype}
    settings["quiet"] = bool(config.disable_tqdm)
    if not arguments.workers_given:
        config.dataloader_num_workers = 0  # rows are read from files that are mapped into memory
    if config.device.type == "cpu":  # what is fastest there: few rows, which its caches hold, and channels last
        torch.nn.Module.to(model, memory_format=torch.channels_last)
        settings["batch_size"] = 32
    return {name: feature_rows(model, rows, folder, checksum, name, **settings) for name, rows in data.items()}


def class_names(train: Any, config: GerneConfig) -> list[str]:
    """Return the names of the classes of a training set of images.

    Args:
        train: a data set with the attribute `label_names`, or a `datasets.Dataset` whose label column is a ClassLabel.
        config ([`GerneConfig`]): names the label column; "label" if it does not.
    """
    return list(getattr(train, "label_names", None) or train.features[config.label_column or "label"].names)


def _why_not(model: PreTrainedModel, train: Any) -> str | None:
    """Return why the features of training rows cannot be computed once; None if they can."""
    tried = range(min(_TRIED_ROWS, len(train)))
    with torch.random.fork_rng(devices=[]):
        first, again = (default_collate([train[i]["pixel_values"] for i in tried]) for _ in range(2))
    if not np.array_equal(np.asarray(first), np.asarray(again)):
        return "training images are changed at random; --augment false leaves them as they are"
    return why_features_change(model, torch.as_tensor(first).to(model.device))
