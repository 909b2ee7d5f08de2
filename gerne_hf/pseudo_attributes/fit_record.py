"""What a fit of the biased model depends on, so that a finished one is found again, and no other is taken for it.

Imports `groups/`, `utils/` and `config.py`. [`biased_model`](gerne_hf.pseudo_attributes.biased_model) names the folder
of a fit by its record.
"""

import json
import uuid
from typing import Any

import datasets
from accelerate.utils import broadcast_object_list
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, default_data_collator
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from ..config import GerneConfig
from ..groups.contents import content_of
from ..groups.fingerprints import fingerprint
from ..tuning.depends_on import source_of
from ..utils.hashing import hash_value, hash_weights

RECORD_FILE = "pseudo_attributes.json"
"""File in the folder of a fit that holds its record; it is written last, when the fit is complete."""

UNKNOWN = "unknown"
"""Entry of a record that says in words of what no fingerprint could be made; such a fit is not found again."""


def fit_record(
    args: GerneConfig,
    train_dataset: Any,
    model: Any,
    optimizer: tuple[Any, dict[str, Any]] | None,
    eval_dataset: Any = None,
    data_collator: Any = None,
    processing_class: Any = None,
    compute_loss_func: Any = None,
) -> dict[str, Any]:
    """Return what a fit depends on, as JSON; fits with equal records are the same fit.

    Data count with all rows and the transform, the model with its weights before training, functions with their code.
    Where no fingerprint can be made of one of these, the record says so under "unknown" and equals no other one. All
    processes call this, and get the record of the main process.

    Args:
        args ([`GerneConfig`]): settings of the fit.
        train_dataset, eval_dataset: the rows to score, and the rows to select on.
        model: f~ before training, or the trained one.
        optimizer (`tuple`, *optional*): class and arguments of the optimizer.
        data_collator, processing_class, compute_loss_func (*optional*): as for [`~transformers.Trainer`].
    """
    columns = sorted(train_dataset.column_names) if isinstance(train_dataset, datasets.Dataset) else None
    settings = {
        name: getattr(args, name)
        for name in (
            *("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"),
            *("max_steps", "learning_rate", "weight_decay", "warmup_steps", "label_smoothing_factor", "world_size"),
            *("max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "lr_scheduler_kwargs"),
            *("biased_model", "bf16", "fp16", "load_best_model_at_end", "eval_steps", "eval_delay"),
            *("dataloader_drop_last", "neftune_noise_alpha"),
        )
    }
    if not args.class_balanced:  # so that fits of class-balanced models have the record that they always had
        settings["class_balanced"] = False
    settings["eval_strategy"] = str(args.eval_strategy)
    settings["lr_scheduler_type"], settings["optim"] = str(args.lr_scheduler_type), str(args.optim)
    if optimizer is not None:
        settings["optimizer"] = [optimizer[0].__name__, {k: v for k, v in optimizer[1].items() if _plain(v)}]
    configuration = getattr(model, "config", None)
    described = configuration.to_dict() if configuration is not None else {}
    # What the Trainer and save_pretrained write into it is no part of the model.
    for name in ("use_cache", "architectures", "dtype", "transformers_version", "_name_or_path"):
        described.pop(name, None)
    parts = {
        "training rows": content_of(train_dataset, columns),
        "validation rows": None if eval_dataset is None else content_of(eval_dataset),
        "weights": hash_weights(model),
        "collator": hash_value(data_collator or default_collator(processing_class)),
        "loss": hash_value(compute_loss_func),
        "optimizer": hash_value(None if optimizer is None else [source_of(optimizer[0]), optimizer[1]]),
    }
    record = {
        "label_column": args.label_column,
        "columns": columns,
        "fingerprint": fingerprint(train_dataset, args.label_column, columns),
        "evaluation": None if eval_dataset is None else fingerprint(eval_dataset, args.label_column),
        "folds": args.folds_of_biased_model,
        "model": type(model).__name__,
        "model_config": json.dumps(described, sort_keys=True, default=str),
        "model_origin": getattr(configuration, "name_or_path", None),
        "settings": settings,
        "hashes": {name: None if part is None else part.whole for name, part in parts.items()},
    }
    unknown = [f"{name}: {what}" for name, part in parts.items() if part is not None for what in part.unknown]
    if unknown:
        record[UNKNOWN], record["made"] = unknown, uuid.uuid4().hex
    (record,) = broadcast_object_list([record])
    return record


def default_collator(processing_class: Any) -> Any:
    """Return the collator that `Trainer` takes if none is given."""
    pads = isinstance(processing_class, (PreTrainedTokenizerBase, SequenceFeatureExtractor))
    return DataCollatorWithPadding(processing_class) if pads else default_data_collator


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, bool, tuple, list, type(None)))
