"""Checks of a trainer's settings against its data and its model, made at construction.

Each refuses with a sentence that says what is wrong, the value found, the values allowed, and the way out. Used by
[`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer) and
[`SamplingTrainer`](gerne_hf.training.sampling_trainer.SamplingTrainer).
"""

import inspect
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..config import GerneConfig
from ..groups.batches import keeps_labels
from ..groups.columns import encode_column
from ..groups.index import GroupIndex, default_label_column
from ..groups.names import shared_name_with_two_ids
from ..groups.sharing import SHARED_ROWS
from ..groups.sources import column_names
from ..streaming.stream import GroupStream, check_stream

logger = logging.get_logger(__name__)


def may_lack_classes(args: GerneConfig) -> bool:
    """Return True if training rows may lack classes that the model or other data sets have."""
    return (args.plan == "erm" or args.empty_groups == "ignore") and not args.pseudo_attributes


def check_head(model: Any, groups: GroupIndex | None, larger: bool = False) -> None:
    """Refuse heads that do not choose one of the K classes; with `larger` they may have more, which is said once.

    Raises:
        ValueError: for regression and multi-label heads, and for another number of classes than the training set's.
    """
    config = getattr(model, "config", None)
    problem = getattr(config, "problem_type", None)
    if problem in ("regression", "multi_label_classification"):
        raise ValueError(
            f"the model's problem_type is {problem!r}. Groups are made of one class a row, so only "
            "single_label_classification can be trained"
        )
    num_labels = getattr(config, "num_labels", None)
    if num_labels == 1:
        raise ValueError("the model has a regression head (num_labels=1); load it with num_labels of 2 or more")
    if groups is not None and num_labels is not None and num_labels != groups.num_classes:
        found = (
            f"the model's head has num_labels={num_labels}, and the training set has {groups.num_classes} "
            f"classes ({', '.join(groups.label_names)})"
        )
        if num_labels < groups.num_classes or not larger:
            more = "; or set empty_groups='ignore' if there are to be more" if num_labels > groups.num_classes else ""
            raise ValueError(f"{found}. Load the model with num_labels={groups.num_classes}{more}")
        logger.warning_once(f"{found[0].upper()}{found[1:]}. No training row is of the others.")


def check_trainable(model: Any, trains: bool) -> None:
    """Refuse to train a model that has no parameter to train.

    Args:
        model: the model.
        trains (`bool`): whether there is a training set.

    Raises:
        ValueError: says how to have a part of it trained, or none.
    """
    if not trains or any(parameter.requires_grad for parameter in model.parameters()):
        return
    found = sum(1 for _ in model.parameters())
    raise ValueError(
        f"{type(model).__name__} has no parameter to train: requires_grad is False for all {found} of them. Unfreeze "
        "a part before you make the trainer, its head say: model.classifier.requires_grad_(True). To evaluate alone, "
        "give no train_dataset"
    )


def check_classes(model: Any, groups: GroupIndex) -> None:
    """Refuse a head that lacks classes of the data, or that has a class by the same name under another id.

    Raises:
        ValueError: says how to bring the two together.
    """
    config = getattr(model, "config", None)
    num_labels = getattr(config, "num_labels", None)
    if num_labels is not None and num_labels < groups.num_classes:
        raise ValueError(
            f"the model's head has num_labels={num_labels}, and the data set has {groups.num_classes} classes "
            f"({', '.join(groups.label_names)}). Filter out rows that the model cannot predict, or load another"
        )
    check_class_names(model, groups.label_names)


def check_streamed_evaluation(args: GerneConfig) -> None:
    """Refuse to evaluate a stream on several processes that read it each for itself.

    Raises:
        ValueError: some rows would be counted twice, as nobody knows how many there are.
    """
    dispatch = getattr(args.accelerator_config, "dispatch_batches", None)
    if args.world_size > 1 and dispatch is False:
        raise ValueError(
            "dispatch_batches=False has each process read the stream for itself, and rows that fill up the last "
            "batches would be counted twice. Leave dispatch_batches at its default to evaluate a stream on several "
            "processes"
        )


def check_class_names(model: Any, class_names: Sequence[str]) -> None:
    """Refuse a head that has a class by the same name under another id.

    Args:
        model: the model; its config has the names, in `id2label`.
        class_names (`Sequence[str]`): the names of the data's classes, by id; empty where nobody knows them.

    Raises:
        ValueError: says how to bring the two together.
    """
    names = dict(getattr(getattr(model, "config", None), "id2label", None) or {})
    theirs, ours = [str(names.get(i)) for i in range(len(names))], list(class_names)
    lowered = [[name.lower() for name in named[: len(ours)]] for named in (theirs, ours)]
    permuted = lowered[0] != lowered[1] and sorted(lowered[0]) == sorted(lowered[1])
    if permuted or shared_name_with_two_ids(ours, theirs) is not None:
        raise ValueError(
            f"the model's classes are {_first_names(theirs)}, and the data set has them in the order "
            f"{_first_names(ours)}: ids would get wrong names. Align the data sets by "
            "dataset.align_labels_with_mapping(model.config.label2id, label_column), or load the model with the data "
            "set's id2label and label2id"
        )


def _first_names(names: Sequence[str]) -> str:
    """Return a list of names for a message, cut short where there are many."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{list(names[:20])}{more}"


def inputs_of(model: Any) -> set[str]:
    """Return the names of the inputs that a model's forward has, those of the model inside a PEFT model."""
    return set(inspect.signature(unwrap_peft_model(model).forward).parameters)


def check_label_texts(dataset: Any, label_column: str | None, collator: Any) -> None:
    """Refuse texts as labels that nothing turns into class ids: no transform, and no collator of the user's.

    Raises:
        ValueError: says how to number the classes.
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom" or not keeps_labels(collator):
        return
    name = label_column or default_label_column(dataset)
    if getattr(dataset.features[name], "dtype", None) in ("string", "large_string"):
        raise ValueError(
            f"the label column {name!r} holds texts, and nothing makes class ids of them before they reach the model. "
            f"Number the classes: dataset.class_encode_column({name!r}), in each data set by the same names"
        )


def check_one_device(devices: int, trains: bool) -> None:
    """Refuse to train by one process on several GPUs: nn.DataParallel would split the rows of a batch, and a plan's
    segments with them. Evaluation looks at single rows, so it may.

    Raises:
        ValueError: says how to start a process for each GPU, or to see only one.
    """
    if trains and devices > 1:
        raise ValueError(
            f"this process sees {devices} GPUs, and the Trainer would split each batch, and with it the plan's "
            f"segments, over them (nn.DataParallel). Start a process for each by `accelerate launch --multi_gpu "
            f"--num_processes {devices} SCRIPT`, or let it see one by CUDA_VISIBLE_DEVICES=0. Evaluation alone, "
            "without a train_dataset, takes all of them"
        )


def check_one_backward(several: bool) -> None:
    """Refuse several backward passes a step (`several`) under DeepSpeed, which takes an optimizer step after each.

    Raises:
        ValueError: says which setting to change.
    """
    if several:
        raise ValueError(
            "DeepSpeed takes an optimizer step after each backward pass, and this run would have one for each segment "
            "of a batch (forward_mode 'separate', or 'auto' with a model that has BatchNorm or a compute_loss of your "
            "own). Set forward_mode='fused', or launch with DDP or FSDP"
        )


def warn_of_added_batches(asked: int, batches: int, processes: int) -> None:
    """Say once that an epoch was made longer for all processes to take the same number of steps."""
    if batches > asked:
        logger.warning_once(
            f"{processes} processes do not divide the {asked} batches of an epoch evenly. It has {batches} now: "
            f"{batches // processes} for each process."
        )


def index_with_attributes(dataset: Any, args: GerneConfig, attributes: Any) -> GroupIndex:
    """Index training rows by their labels, and by attribute values that are given beside them.

    Args:
        dataset: the training set.
        args ([`GerneConfig`]): the settings, which name the attribute.
        attributes (array of shape `(N,)`): the attribute value of each row, in the order of the rows.

    Raises:
        ValueError: unless there is one name, `attribute_column`, and one value a row; and for unknown attributes.
    """
    if isinstance(dataset, GroupStream) or args.pseudo_attributes:
        what = "pseudo_attributes=True infers groups" if args.pseudo_attributes else "a stream knows its groups"
        raise ValueError(f"attributes= are the values of a map-style training set, and {what}. Leave attributes out")
    if len(args.attribute_columns) != 1:
        raise ValueError(
            "attributes= are the values of one attribute, and attribute_column is its name in the evaluation sets; "
            f"found {args.attribute_column!r}. Set it to one name"
        )
    if len(attributes) != len(dataset):
        raise ValueError(f"attributes= has {len(attributes)} values for {len(dataset)} training rows; give one a row")
    labels = GroupIndex.from_dataset(dataset, args.label_column)
    (name,) = args.attribute_columns
    values = encode_column({name: attributes}, name, "attribute")
    return GroupIndex.from_codes(labels.codes, labels.label_names, [values])


def index_training_set(
    dataset: Any, args: GerneConfig, plans_without_attributes: Sequence[str], trainer: str, attributes: Any = None
) -> GroupIndex:
    """Index the training rows by the attribute that is evaluated, or by class alone where it is unknown in training.

    Args:
        dataset: the training set, or a stream of training rows.
        args ([`GerneConfig`]): the settings.
        plans_without_attributes (`Sequence[str]`): plans that can be trained without an attribute column.
        trainer (`str`): name of the trainer's class, for messages.
        attributes (array of shape `(N,)`, *optional*): the attribute value of each row, where the rows lack it.

    Raises:
        TypeError: for data without columns or with unusable ones.
        ValueError: for a missing attribute column, and for groups that no batch can be drawn from.
    """
    needed = args.plan not in plans_without_attributes and not args.pseudo_attributes
    if needed and not args.attribute_columns:
        others = " or ".join(map(repr, plans_without_attributes))
        way_out = f"Without one only the plan {others} can be trained" if others else "Without one nothing can"
        raise ValueError(
            f"{trainer} with plan {args.plan!r} needs attribute_column, the column (or columns) that "
            f"holds the attribute. {way_out}, or any plan with pseudo_attributes=True"
        )
    reference: GroupIndex
    if attributes is not None:
        reference = index_with_attributes(dataset, args, attributes)
    known = needed or all(name in column_names(dataset) for name in args.attribute_columns)
    if isinstance(dataset, GroupStream):
        check_stream(dataset, args)
        reference = dataset.groups
    elif attributes is None:
        columns = args.attribute_columns if known else None
        in_shards = args.world_size > 1 and len(dataset) >= SHARED_ROWS
        reference = GroupIndex.from_dataset(dataset, args.label_column, columns, in_shards=in_shards)
    if args.pseudo_attributes:
        reference.check_trainable(needs_attributes=False)
        return reference
    lacking = may_lack_classes(args)
    reference.check_trainable(args.empty_groups, needed, "ignore" if lacking else "error")
    absent = [reference.label_names[label] for label in np.flatnonzero(reference.counts.sum(axis=1) == 0)]
    if absent:
        logger.warning_once(
            f"The classes {_first_names(absent)} have no training rows; the model is trained on the other "
            f"{reference.num_classes - len(absent)} of {reference.num_classes}."
        )
    if needed and (reference.counts == 0).any():
        logger.warning_once(
            f"{int((reference.counts == 0).sum())} of {reference.counts.size} groups have no training rows; their "
            "mass goes to the other groups of their class (empty_groups='ignore')."
        )
    return reference
