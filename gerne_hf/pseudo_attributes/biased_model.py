"""Fitting the biased model f~ of the unknown-attribute case (Algorithm 2, step 1), and scoring the training rows."""

import copy
import hashlib
import json
import os
from typing import Any

import datasets
import numpy as np
import torch
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging

from ..checkpoints.seals import checkpoint_to_resume
from ..config import GerneConfig
from ..groups.fingerprints import fingerprint
from ..method.outputs import logits_of
from ..trainer import GerneTrainer
from ..training.checks import check_same_labels
from .hub import RECORD_FILE
from .scores import PseudoAttributes

logger = logging.get_logger(__name__)

WEIGHT_DECAY_FACTOR, LEARNING_RATE_FACTOR = 2.0, 0.1  # the paper's, section on unknown attributes


def biased_config(args: GerneConfig, directory: str, evaluates: bool) -> GerneConfig:
    """The settings of f~: those of the main run with the plan `erm`, twice the weight decay and a tenth of the rate.

    Args:
        args ([`GerneConfig`]): settings of the main run.
        directory (`str`): output folder of the fit.
        evaluates (`bool`): whether there is an evaluation set to select on.
    """
    config = copy.copy(args)
    config.output_dir = directory
    config.plan, config.beta_schedule, config.class_balanced = "erm", "constant", True
    config.pseudo_attributes, config.attribute_column, config.threshold = False, None, None
    config.learning_rate = _first(args.biased_learning_rate, LEARNING_RATE_FACTOR * args.learning_rate)
    config.weight_decay = _first(args.biased_weight_decay, WEIGHT_DECAY_FACTOR * args.weight_decay)
    if args.biased_epochs is not None:
        config.num_train_epochs, config.max_steps = args.biased_epochs, -1
    if config.eval_strategy == IntervalStrategy.NO:
        config.eval_strategy = IntervalStrategy.EPOCH
    config.save_strategy, config.save_total_limit = SaveStrategy(config.eval_strategy.value), 1
    config.save_steps = config.eval_steps if config.eval_strategy == IntervalStrategy.STEPS else config.save_steps
    config.load_best_model_at_end, config.greater_is_better = evaluates, True
    config.metric_for_best_model = "class_balanced_accuracy" if evaluates else None
    if not evaluates:
        config.eval_strategy = IntervalStrategy.NO
    config.push_to_hub, config.resume_from_checkpoint, config.save_only_model = False, None, False
    # Scores are predictions, in one array, and selection needs them too.
    config.prediction_loss_only, config.eval_do_concat_batches = False, True
    return config


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def fit_record(args, train_dataset: Any, model: Any, optimizer: tuple | None, eval_dataset: Any = None) -> dict:
    """What a fit depends on; fits with equal records are the same fit."""
    columns = sorted(train_dataset.column_names) if isinstance(train_dataset, datasets.Dataset) else None
    settings = {
        name: getattr(args, name)
        for name in (
            *("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"),
            *("max_steps", "learning_rate", "weight_decay", "warmup_steps", "label_smoothing_factor", "world_size"),
            *("max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "lr_scheduler_kwargs"),
            *("biased_model", "bf16", "fp16", "load_best_model_at_end", "eval_steps", "eval_delay"),
        )
    }
    settings["eval_strategy"] = str(args.eval_strategy)
    settings["lr_scheduler_type"], settings["optim"] = str(args.lr_scheduler_type), str(args.optim)
    if optimizer is not None:
        settings["optimizer"] = [optimizer[0].__name__, {k: v for k, v in optimizer[1].items() if _plain(v)}]
    configuration = getattr(model, "config", None)
    described = configuration.to_dict() if configuration is not None else {}
    # What the Trainer and save_pretrained write into it is no part of the model.
    for name in ("use_cache", "architectures", "dtype", "transformers_version", "_name_or_path"):
        described.pop(name, None)
    return {
        "label_column": args.label_column,
        "columns": columns,
        "fingerprint": fingerprint(train_dataset, args.label_column, columns),
        "evaluation": None if eval_dataset is None else fingerprint(eval_dataset, args.label_column),
        "weights": _digest(model) if args.biased_model is not None else None,
        "model": type(model).__name__,
        "model_config": json.dumps(described, sort_keys=True, default=str),
        "model_origin": getattr(configuration, "name_or_path", None),
        "settings": settings,
    }


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, bool, tuple, list, type(None)))


def fit_for_trainer(trainer: Any) -> PseudoAttributes:
    """Fit f~ for a [`GerneTrainer`]: with its model before training, its data and its settings."""
    args = trainer.args
    if trainer._optimizer_given:
        raise ValueError(
            "the biased model needs an optimizer of its own, and optimizers=(...) holds one for the main model. Pass "
            "optimizer_cls_and_kwargs, or choose it by the config"
        )
    main = trainer.accelerator.unwrap_model(trainer.model)
    if args.biased_model is not None:
        model = load_biased_model(main, args.biased_model)
        check_same_labels(main, model)
    else:
        set_seed(args.seed)
        model = trainer.call_model_init() if trainer.model_init is not None else copy.deepcopy(main)
    return fit_biased_model(
        args=args,
        train_dataset=trainer.train_dataset,
        model=model,
        eval_dataset=trainer.eval_dataset,
        data_collator=trainer.data_collator,
        processing_class=trainer.processing_class,
        compute_loss_func=trainer._loss_func,
        optimizer_cls_and_kwargs=trainer.optimizer_cls_and_kwargs,
    )


def fit_biased_model(
    *,
    args: GerneConfig,
    train_dataset: Any,
    model: Any = None,
    model_init: Any = None,
    eval_dataset: Any = None,
    optimizer_cls_and_kwargs: tuple | None = None,
    **arguments: Any,
) -> PseudoAttributes:
    """See [`PseudoAttributes.fit`]."""

    if model is None:
        if model_init is None:
            raise ValueError("the biased model is missing: pass model= or model_init=")
        model = model_init()
    if args.biased_model is not None:
        model = load_biased_model(model, args.biased_model)
    if isinstance(eval_dataset, dict):
        eval_dataset = next(iter(eval_dataset.values()), None)
    config = biased_config(args, args.output_dir, eval_dataset is not None and args.biased_model is None)
    optimizer = None
    if optimizer_cls_and_kwargs is not None:
        # The optimizer's own rate and decay win over those of the config, as in the main run.
        cls, kwargs = optimizer_cls_and_kwargs
        rate = kwargs.get("lr", args.learning_rate)
        config.learning_rate = _first(args.biased_learning_rate, LEARNING_RATE_FACTOR * rate)
        optimizer = cls, {**kwargs, "lr": config.learning_rate, "weight_decay": config.weight_decay}
    record = fit_record(config, train_dataset, model, optimizer, eval_dataset)
    key = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:12]
    parent = args.pseudo_attributes_dir or os.path.join(args.output_dir, "pseudo_attributes")
    config.output_dir = directory = os.path.join(parent, key)
    if os.path.isfile(os.path.join(directory, RECORD_FILE)):
        logger.info(f"Scores of the biased model found in {directory}")
        return PseudoAttributes.load(directory, train_dataset)

    trainer = GerneTrainer(
        model=model,
        args=config,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        optimizer_cls_and_kwargs=optimizer,
        preprocess_logits_for_metrics=true_class_scores,
        **arguments,
    )
    trainer._hidden_columns = args.attribute_columns
    if args.biased_model is None:
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(directory))
    return _score(trainer, train_dataset, record, directory)


def _digest(model: Any) -> str:
    """A hash of all weights: a folder may get another model under the same name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_biased_model(like: Any, folder: str) -> Any:
    """A trained biased model from a folder or the Hub.

    Args:
        like ([`~transformers.PreTrainedModel`]): a model of the class to load.
        folder (`str`): where it is.

    Raises:
        ValueError: if the checkpoint is of another class, whose weights would not be found.
    """
    names = type(like).config_class.get_config_dict(folder)[0].get("architectures") or []
    if names and type(like).__name__ not in names:
        raise ValueError(
            f"biased_model={folder!r} holds a {names[0]}, and the main model is a {type(like).__name__}. Fit with it "
            "by PseudoAttributes.fit(model=...), and train on the column that label() adds"
        )
    return type(like).from_pretrained(folder)


def true_class_scores(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """`(B, 2)`: softmax probability of the true class, in float32, and the predicted class."""
    logits = logits_of(logits if isinstance(logits, (tuple, list, dict)) else (logits,)).float()
    probability = logits.softmax(dim=-1).gather(1, labels[:, None].long())
    return torch.cat([probability, logits.argmax(dim=-1, keepdim=True).float()], dim=1)


def _score(trainer: Any, train_dataset: Any, record: dict[str, Any], directory: str) -> PseudoAttributes:
    """Score the training rows once, over all processes; the main one saves scores and model."""
    output = trainer.predict(train_dataset, metric_key_prefix="train")
    scores, predictions = np.ascontiguousarray(output.predictions.T)
    index = trainer.reference_groups
    labels = (index.codes // index.num_attributes).astype(np.int64)
    record = dict(record)
    mark = record.pop("fingerprint")
    accuracy = trainer.group_results.get("eval", {}).get("class_balanced_accuracy")
    record["class_balanced_accuracy"] = accuracy
    pseudo = PseudoAttributes(scores, predictions.astype(np.int64), labels, index.label_names, mark, directory, record)
    trainer.save_model(os.path.join(directory, "model"))
    if trainer.args.should_save:
        pseudo.save(directory)
    trainer.accelerator.wait_for_everyone()
    pseudo._dataset = train_dataset
    return pseudo
