"""Training the biased model f~ of the unknown-attribute case (Algorithm 2, step 1), and scoring the training rows.

The biased model is trained by a [`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer), and what comes out are
arrays. Keeping and finding them is the work of [`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes).
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..checkpoints.seals import checkpoint_to_resume
from ..config import GerneConfig
from ..method.outputs import logits_of
from ..models.heads import classification_head
from ..training.checks import check_head
from ..training.plan_trainer import PlanTrainer
from ..utils.quiet import is_quiet
from .fit_record import RECORD_FILE, fit_record

WEIGHT_DECAY_FACTOR, LEARNING_RATE_FACTOR = 2.0, 0.1
"""Factors of the main run's weight decay and learning rate, as in the paper's section on unknown attributes."""


@dataclass(frozen=True)
class BiasedScores:
    """What a biased model says of rows, those of the training set or of another one.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`, float32): softmax probability of each class.
        labels (`np.ndarray` of shape `(N,)`, int64): true class ids.
        label_names (`tuple[str, ...]`): the K classes.
        features (`np.ndarray` of shape `(N, D)`, float16, *optional*): what the model gives to its classification
            head; None for a model whose head is not one linear layer on one vector a row.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    features: np.ndarray | None = None


@dataclass(frozen=True)
class BiasedFit:
    """A fit of the biased model that is ready to run: model, settings and data, and what tells it from other fits.

    Make it with [`prepare_fit`].

    Args:
        model: f~ before training, or a trained one that only scores.
        config ([`GerneConfig`]): settings of the fit; `output_dir` is the fit's own folder.
        train_dataset, eval_dataset: the rows to score, and one set to select on (None for none).
        optimizer (`tuple`, *optional*): class and arguments of the optimizer.
        record (`dict`): what the fit depends on; fits with equal records are the same fit.
        hidden_columns (`tuple[str, ...]`): columns that no batch has.
        arguments (`dict`): more arguments of the trainer.
    """

    model: Any
    config: GerneConfig
    train_dataset: Any
    eval_dataset: Any
    optimizer: tuple[Any, dict[str, Any]] | None
    record: dict[str, Any]
    hidden_columns: tuple[str, ...]
    arguments: dict[str, Any]

    @property
    def directory(self) -> str:
        """The fit's folder, whose name follows from the record."""
        return self.config.folder

    def run(self) -> tuple[PlanTrainer, "RowReader"]:
        """Train the model, unless it is a trained one, and save it to `model/` of the folder.

        A training that was interrupted goes on from its last checkpoint. On several processes all call this.

        Returns:
            `tuple`: the trainer, and what reads scores off its predictions; [`scored`] takes both.
        """
        reader = RowReader(self.model)
        trainer = PlanTrainer(
            model=self.model,
            args=self.config,
            train_dataset=self.train_dataset,
            eval_dataset=self.eval_dataset,
            optimizer_cls_and_kwargs=self.optimizer,
            preprocess_logits_for_metrics=reader,
            **self.arguments,
        )
        trainer.hidden_columns = self.hidden_columns
        if is_quiet():
            trainer.remove_callback(ProgressCallback)
            trainer.remove_callback(PrinterCallback)
        check_head(self.model, trainer.known_groups)  # scores and labels are over the same classes
        trainer.known_groups.check_trainable(needs_attributes=False)
        if self.config.biased_model is None:
            trainer.train(resume_from_checkpoint=checkpoint_to_resume(self.directory))
        trainer.save_model(os.path.join(self.directory, "model"))
        return trainer, reader


class RowReader:
    """Turns the logits of an evaluation batch into what scores are made of: probabilities, and features beside them.

    Given to a trainer as `preprocess_logits_for_metrics`, its output is gathered over processes in the rows' order.

    Args:
        model (`nn.Module`): the model, whose head is listened to if it is one linear layer.
    """

    def __init__(self, model: Any):
        self.classes = 0
        self._features: torch.Tensor | None = None
        try:
            head = classification_head(model)
        except (ValueError, AttributeError):  # no head, or no config that says how many classes there are
            return
        head.register_forward_pre_hook(self._keep)

    def _keep(self, module: Any, inputs: tuple[Any, ...]) -> None:
        if not module.training and inputs:
            self._features = inputs[0].detach()

    def __call__(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of the K classes, and the D features if there are any, `(B, K + D)`, float32."""
        logits = logits_of(logits if isinstance(logits, (tuple, list, dict)) else (logits,)).float()
        features, self._features = self._features, None
        self.classes = logits.shape[-1]
        probabilities = logits.softmax(dim=-1)
        if features is None or features.ndim != 2 or len(features) != len(logits):
            return probabilities
        return torch.cat([probabilities, features.float().to(probabilities.device)], dim=1)


def scored(trainer: PlanTrainer, reader: RowReader, dataset: Any, prefix: str) -> BiasedScores:
    """Return what a trained biased model says of the rows of a data set; on several processes all call this.

    Args:
        trainer ([`PlanTrainer`]), reader ([`RowReader`]): what [`BiasedFit.run`] returned.
        dataset: the rows to score.
        prefix (`str`): the `metric_key_prefix` of this evaluation.
    """
    output = trainer.predict(dataset, metric_key_prefix=prefix)
    values, classes = np.asarray(output.predictions), reader.classes
    index = trainer.groups_of(dataset, prefix)
    assert index is not None
    labels = (index.codes // index.num_attributes).astype(np.int64)
    features = None
    if values.shape[1] > classes:
        largest = np.finfo(np.float16).max
        features = np.clip(values[:, classes:], -largest, largest).astype(np.float16)
    return BiasedScores(np.ascontiguousarray(values[:, :classes]), labels, index.label_names, features)


def prepare_fit(
    *,
    args: GerneConfig,
    train_dataset: Any,
    model: Any = None,
    model_init: Callable[[], Any] | None = None,
    eval_dataset: Any = None,
    optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
    weights_of_run: str | None = None,
    class_balanced: bool = True,
    **arguments: Any,
) -> BiasedFit:
    """Make a fit of the biased model ready.

    Args:
        args, train_dataset, model, model_init, eval_dataset, optimizer_cls_and_kwargs, arguments: as for
            [`PseudoAttributes.fit`](gerne_hf.pseudo_attributes.PseudoAttributes.fit).
        weights_of_run (`str`, *optional*): of a run that resumes, the hash of the weights that its biased models
            started with. Its finished fit is found again, whatever weights the model has now.
        class_balanced (`bool`, *optional*, defaults to `True`): whether classes are drawn equally often, as in the
            paper, or the model is plain ERM.

    Raises:
        ValueError: without a model, or if `biased_model` names one of another class.
    """
    if model is None:
        if model_init is None:
            raise ValueError("the biased model is missing: pass model= or model_init=")
        model = model_init()
    if args.biased_model is not None:
        model = load_biased_model(model, args.biased_model)
    if isinstance(eval_dataset, dict):
        eval_dataset = next(iter(eval_dataset.values()), None)
    selects = eval_dataset is not None and args.biased_model is None and args.folds_of_biased_model == 1
    config = biased_config(args, args.folder, selects)
    config.class_balanced = class_balanced
    optimizer = None
    if optimizer_cls_and_kwargs is not None:
        # The optimizer's own rate and decay win over those of the config, as in the main run.
        cls, kwargs = optimizer_cls_and_kwargs
        rate = kwargs.get("lr", args.learning_rate)
        factor = LEARNING_RATE_FACTOR if args.folds_of_biased_model == 1 else 1.0
        config.learning_rate = _first(args.biased_learning_rate, factor * rate)
        optimizer = cls, {**kwargs, "lr": config.learning_rate, "weight_decay": config.weight_decay}
    hooks = {name: arguments.get(name) for name in ("data_collator", "processing_class", "compute_loss_func")}
    record = fit_record(config, train_dataset, model, optimizer, eval_dataset, **hooks)
    parent = args.pseudo_attributes_dir or os.path.join(args.folder, "pseudo_attributes")
    config.output_dir = os.path.join(parent, _key(record))
    if weights_of_run is not None:
        of_run = {**record, "hashes": {**record["hashes"], "weights": weights_of_run}}
        folder = os.path.join(parent, _key(of_run))
        if os.path.isfile(os.path.join(folder, RECORD_FILE)):
            record, config.output_dir = of_run, folder
    hidden = args.attribute_columns
    return BiasedFit(model, config, train_dataset, eval_dataset, optimizer, record, hidden, arguments)


def _key(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:12]


def biased_config(args: GerneConfig, directory: str, evaluates: bool) -> GerneConfig:
    """Return the settings of f~: those of the main run, with the plan `erm`.

    In one fold, as in the paper, it has twice the decay and a tenth of the rate, and the checkpoint is kept that is
    best on the evaluation set. In several folds a model cannot memorize the rows that it scores, so rate and decay are
    those of the main run, and the last weights are kept: what is selected by accuracy ranks the minority worse.

    Args:
        args ([`GerneConfig`]): settings of the main run.
        directory (`str`): output folder of the fit.
        evaluates (`bool`): whether there is an evaluation set to select on.
    """
    one = args.folds_of_biased_model == 1
    config = copy.copy(args)
    config.output_dir = directory
    config.plan, config.beta_schedule, config.class_balanced = "erm", "constant", True
    config.pseudo_attributes, config.attribute_column, config.threshold = False, None, None
    config.pseudo_rule, config.biased_folds = "auto", args.folds_of_biased_model
    config.overlapping_columns = None
    config.learning_rate = _first(
        args.biased_learning_rate, (LEARNING_RATE_FACTOR if one else 1.0) * args.learning_rate
    )
    config.weight_decay = _first(args.biased_weight_decay, (WEIGHT_DECAY_FACTOR if one else 1.0) * args.weight_decay)
    if args.biased_epochs is not None:
        config.num_train_epochs, config.max_steps = args.biased_epochs, -1
    if not one:
        config.save_total_limit = 1
        if config.save_strategy == SaveStrategy.BEST:
            config.save_strategy = SaveStrategy.EPOCH
    else:
        if config.eval_strategy == IntervalStrategy.NO:
            config.eval_strategy = IntervalStrategy.EPOCH
        config.save_strategy, config.save_total_limit = SaveStrategy(IntervalStrategy(config.eval_strategy).value), 1
    if one and config.eval_strategy == IntervalStrategy.STEPS and config.eval_steps is not None:
        config.save_steps = config.eval_steps
    config.load_best_model_at_end, config.greater_is_better = evaluates, True
    config.metric_for_best_model = "class_balanced_accuracy" if evaluates else None
    config.extra_metrics = None
    if not evaluates:
        config.eval_strategy = IntervalStrategy.NO
    config.push_to_hub, config.resume_from_checkpoint, config.save_only_model = False, None, False
    # Scores are predictions, in one array, and selection needs them too.
    config.prediction_loss_only, config.eval_do_concat_batches = False, True
    return config


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def load_biased_model(like: Any, folder: str) -> Any:
    """Load a trained biased model from a folder or the Hub.

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


def check_same_labels(model: Any, biased_model: Any) -> None:
    """Refuse a biased model whose classes are not those of the main model.

    Args:
        model, biased_model: models with a config.

    Raises:
        ValueError: for another number of classes, or other names where both models have names.
    """
    ours, theirs = (dict(getattr(getattr(m, "config", None), "id2label", None) or {}) for m in (model, biased_model))
    named = [names for names in (ours, theirs) if any(text != f"LABEL_{i}" for i, text in names.items())]
    if ours and theirs and (len(ours) != len(theirs) or (len(named) == 2 and ours != theirs)):
        raise ValueError(
            f"the biased model's classes are {list(theirs.values())}, and the main model's are {list(ours.values())}. "
            "Scores of one label space say nothing about another: choose a biased model with the same labels"
        )
