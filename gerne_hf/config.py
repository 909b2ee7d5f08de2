"""`GerneConfig`: `TrainingArguments` with the settings of GERNE."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, cast

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from .checkpoints.identity import RUN_FIELDS
from .evaluation.affordable import TRAINING_ACCURACIES
from .evaluation.score_names import EXTRA_METRICS, check_extra_metrics
from .evaluation.selection import AUTOMATIC, settled_direction
from .method.beta import BETA_SCHEDULES
from .method.distributions import check_c
from .method.plans import PLANS, PLANS_WITH_BETA, SCHEDULED_PLANS, check_biased_share
from .method.pseudo_groups import RULES
from .utils.field_types import settle_types
from .utils.harmless import declare, harmless_text, is_harmless, is_secret
from .utils.random import check_seed

_CHOICES = {
    "plan": PLANS,
    "forward_mode": ("auto", "fused", "separate"),
    "empty_groups": ("error", "ignore"),
    "beta_out_of_bounds": ("error", "warn", "ignore"),
    "beta_schedule": BETA_SCHEDULES,
    "pseudo_rule": ("auto", *RULES),
    "training_accuracies": TRAINING_ACCURACIES,
}

_OF_TRANSFORMERS = {one.name for one in fields(TrainingArguments)}


@dataclass
class GerneConfig(TrainingArguments):
    r"""Settings of a [`GerneTrainer`]: all of [`~transformers.TrainingArguments`], and those below.

    `per_device_train_batch_size` keeps its meaning, rows on a device in one forward and backward, so that memory,
    throughput and FLOP figures stay true: it counts the biased and the less biased batch **together**. The paper's
    batch size is the half of it.

    Args:
        > Groups

        attribute_column (`str` or `list[str]`, *optional*):
            The column that holds the attribute (integers, booleans, strings or a ClassLabel), or several, whose
            product is then the attribute. Needed by every plan but `erm`, unless `pseudo_attributes` is set: then it
            is read for reports and in the evaluation sets only.
        label_column (`str`, *optional*):
            The column that holds the class; the first of `label`, `labels`, `label_ids` that exists if not given.
        overlapping_columns (`list[str]`, *optional*):
            Boolean columns of the evaluation sets, an attribute each, of which a row may have several at once: every
            evaluation is then over these overlapping groups. `attribute_column` still says what the groups of
            training are, and the evaluation sets need not have it.
        empty_groups (`str`, *optional*, defaults to `"error"`):
            What to do about a group without training rows: "error" refuses it, "ignore" gives its mass to the other
            groups of its class. With "ignore", and with the plan "erm", classes may lack training rows, and the
            model's head may have more classes than the data.

        > Method

        plan (`str`, *optional*, defaults to `"independent"`):
            The make-up of a batch: "independent" (GERNE as in the paper), "shared" or "collapsed" (the same expected
            gradient at less cost and less noise), "erm", "resampling", "reweighting", "sampling_weighting" (SW of the
            paper's App. B) or "group_weighted_loss" (every row once, groups count alike). See [`BatchPlan.build`].
        c (`float`, *optional*, defaults to `0.5`):
            Degree of bias reduction of the less biased batch (Eq. 4), in (0, 1].
        beta (`float`, *optional*, defaults to `1.0`):
            Extrapolation factor (Eq. 5). -1 is class-balanced ERM; c (beta + 1) = 1, as with the defaults, balances
            the groups in expectation; above that minority groups are over-represented, up to the bound of Eq. 9.
        beta_out_of_bounds (`str`, *optional*, defaults to `"error"`):
            What to do about a beta outside the bounds of Eq. 9: "error", "warn" or "ignore".
        beta_schedule (`str`, *optional*, defaults to `"constant"`):
            "constant", or "linear": from -1 (ERM) up to `beta` over the first `beta_ramp` of the training. For
            schedules of your own override [`GerneTrainer.get_beta`].
        beta_ramp (`float`, *optional*, defaults to `0.5`):
            Length of the linear schedule's ramp as a share of the training, in (0, 1].
        biased_share (`float`, *optional*, defaults to `0.5`):
            The biased batch's share of the rows of a batch of the plan "independent", in (0, 1); half of them, as in
            the paper, by default. The expected gradient is the same for all shares, its noise is not:
            `beta / (1 + 2 beta)` gives each batch rows in proportion to its factor in Eq. 5.
        class_balanced (`bool`, *optional*, defaults to `True`):
            Whether classes are drawn equally often, as in the paper, or as often as they occur. With the plan "erm" an
            epoch is every row once then, in the order of the stock `Trainer`.

        > Unknown attributes (Algorithm 2)

        pseudo_attributes (`bool`, *optional*, defaults to `False`):
            Train on groups that are inferred from the scores of biased models, which are trained first
            ([`PseudoAttributes`]). `attribute_column`, if given, is not used in training. A beta beyond its bounds is
            warned of and not refused here: App. C proves them for known attributes.
        pseudo_rule (`str`, *optional*, defaults to `"auto"`):
            The rule by which groups are inferred, one of those of
            [`infer_groups`](gerne_hf.pseudo_attributes.infer_groups). "auto" is "threshold" if a `threshold` is
            given, "validation_attributes" if `attribute_column` is given (the evaluation set has it), and else
            "validation_shift".
        threshold (`float`, *optional*):
            t of the rule "threshold", the share of each class that becomes the pseudo-attribute "hard", in (0, 1).
        biased_folds (`int`, *optional*):
            Folds of the biased models: each row is scored by a model that was trained on the other folds. 1 is the
            paper's biased model and the default of the rule "threshold"; 2, the default of the others, costs as
            much as one more run.
        biased_learning_rate (`float`, *optional*):
            Learning rate of the biased models; `learning_rate` if not given, or in one fold a tenth of it, as in the
            paper.
        biased_weight_decay (`float`, *optional*):
            Their weight decay; `weight_decay` if not given, in one fold twice that as in the paper.
        biased_epochs (`float`, *optional*):
            Their epochs; `num_train_epochs` (or `max_steps`) if not given.
        biased_model (`str`, *optional*):
            Folder or Hub id of a biased model that is trained already; it only scores the rows.
        pseudo_attributes_dir (`str`, *optional*):
            Where biased models and scores are kept, each fit in a folder of its own, found again by the same settings
            and data; `output_dir/pseudo_attributes` if not given.

        > Selection

        metric_for_best_model (`str`, *optional*):
            As in the parent, but where `load_best_model_at_end` is set it defaults to "auto" and not to the loss:
            worst-group accuracy if the evaluation set has attributes, and else worst-class accuracy, or with
            `pseudo_attributes` the gated accuracy: that of the worst inferred group of the evaluation set, unless its
            class-balanced accuracy is more than 0.02 below that of the biased models, which are class-balanced ERM.
            "worst_f1", "overall_auroc", "equalized_odds_gap" and so on turn on the metric of `extra_metrics` that they
            need, and set `greater_is_better`.

        > Evaluation

        extra_metrics (`list[str]`, *optional*):
            Metrics beyond accuracy that each evaluation computes for every attribute value, some of "f1", "tpr",
            "fpr", "auroc", "ece" (calibration error) and "equalized_odds_gap". See
            [`group_scores`](gerne_hf.evaluation.group_scores.group_scores).

        > Reports

        attribute_source (`str`, *optional*):
            Who or what says which attribute a row has ("annotated by two people", "computed from the file names"): a
            sentence for the card.
        training_accuracies (`str`, *optional*, defaults to `"auto"`):
            Whether a comparison evaluates the training rows for the card: "always", "never", or "auto", unless that
            would take more than a tenth of the time of the training.
        worst_examples (`int`, *optional*, defaults to `4`):
            Rows of each group, those with the lowest probability of their true label, whose image or text a recipe
            saves from the test set to `output_dir/_examples`, for `gerne-report`; 0 keeps none. They are **data**:
            mind who may see them. The Trainer pushes no file whose name begins with an underscore; `hf upload` does,
            without `--exclude "_*"`.

        > The Hub

        hub_patience (`float`, *optional*, defaults to `300`):
            Seconds for which the last push waits and tries again where the Hub is busy or cannot be reached. It waits
            as long as the Hub asks. A push during the training does not wait: the next one makes up for it. With 0
            nothing that failed is pushed again.
        hub_overwrite (`bool`, *optional*, defaults to `False`):
            Whether the model may take the place of one of another method in the repository, which is refused
            otherwise.
        hub_training_args (`bool`, *optional*, defaults to `False`):
            Whether `training_args.bin`, a pickle of these settings with places of this machine, is published, too.

        > Computation

        forward_mode (`str`, *optional*, defaults to `"auto"`):
            "fused" runs one forward and backward over all rows. "separate" runs one for each segment: BatchNorm
            statistics are those of each batch, as in the paper, and activations take about half the memory. "auto"
            is "separate" if the model has a BatchNorm layer in training mode, else "fused".

        > Resume

        resume_with_changes (`list[str]`, *optional*):
            What may differ between a checkpoint and the run that resumes from it, which is refused otherwise:
            "trainer", "data" (labels, attributes or their order), "plan", "c", "beta", "beta_schedule", "beta_ramp",
            "biased_share", "class_balanced", "threshold", "pseudo_rule", "method_settings", "seed", "batch_size",
            "gradient_accumulation_steps" or "world_size". The length of the training, logging and evaluation may
            always be changed.

    Raises:
        ValueError: for values outside those listed, a seed that no generator takes, `split_batches`, another
            `train_sampling_strategy`, a schedule with a plan that has no beta in its loss, or a `threshold` without
            its rule or the other way round.
    """

    attribute_column: list[str] | None = field(
        default=None,
        metadata={"help": "Column that holds the attribute; several columns: their product."},
    )
    label_column: str | None = field(
        default=None,
        metadata={"help": "Column that holds the class; the first of label, labels, label_ids if not given."},
    )
    overlapping_columns: list[str] | None = field(
        default=None, metadata={"help": "Boolean columns of attributes that overlap, to evaluate over their groups."}
    )
    plan: str = field(
        default="independent", metadata={"help": "Make-up of a batch: " + ", ".join(PLANS), "choices": list(PLANS)}
    )
    c: float = field(default=0.5, metadata={"help": "Degree of bias reduction of the less biased batch, in (0, 1]."})
    beta: float = field(default=1.0, metadata={"help": "Extrapolation factor, inside the bounds of Eq. 9."})
    beta_schedule: str = field(
        default="constant",
        metadata={"help": "beta over training: constant, or linear from -1 up to beta.", "choices": [*BETA_SCHEDULES]},
    )
    beta_ramp: float = field(default=0.5, metadata={"help": "Share of the training over which beta rises, in (0, 1]."})
    biased_share: float = field(
        default=0.5, metadata={"help": "The biased batch's share of the rows of plan 'independent', in (0, 1)."}
    )
    beta_out_of_bounds: str = field(
        default="error",
        metadata={"help": "What to do about beta outside its bounds.", "choices": ["error", "warn", "ignore"]},
    )
    empty_groups: str = field(
        default="error",
        metadata={"help": "What to do about groups without training rows.", "choices": ["error", "ignore"]},
    )
    class_balanced: bool = field(
        default=True, metadata={"help": "Draw classes equally often (as in the paper), not as often as they occur."}
    )
    pseudo_attributes: bool = field(
        default=False, metadata={"help": "Attributes are unknown: train on pseudo-attributes from a biased model."}
    )
    pseudo_rule: str = field(
        default="auto",
        metadata={"help": "Rule by which groups are inferred: auto, " + ", ".join(RULES), "choices": ["auto", *RULES]},
    )
    biased_folds: int | None = field(
        default=None, metadata={"help": "Folds of the biased models; 1 with the rule threshold, else 2 by default."}
    )
    threshold: float | None = field(
        default=None, metadata={"help": "t, the share of each class that becomes pseudo-attribute 'hard', in (0, 1)."}
    )
    biased_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the biased model; a tenth of learning_rate if not given."}
    )
    biased_weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay of the biased model; twice weight_decay if not given."}
    )
    biased_epochs: float | None = field(
        default=None, metadata={"help": "Epochs of the biased model; those of the run if not given."}
    )
    biased_model: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a biased model that is trained already."}
    )
    pseudo_attributes_dir: str | None = field(
        default=None, metadata={"help": "Folder of biased models and scores; output_dir/pseudo_attributes by default."}
    )
    extra_metrics: list[str] | None = field(
        default=None, metadata={"help": "Metrics of each attribute value to compute: " + ", ".join(EXTRA_METRICS)}
    )
    attribute_source: str | None = field(
        default=None, metadata={"help": "For the card: who or what says which attribute a row has."}
    )
    training_accuracies: str = field(
        default="auto",
        metadata={"help": "Evaluate the training rows for the card; auto: if cheap.", "choices": TRAINING_ACCURACIES},
    )
    worst_examples: int = field(
        default=4, metadata={"help": "Worst rows of each group to keep as images or texts for gerne-report; 0: none."}
    )
    hub_patience: float = field(
        default=300.0, metadata={"help": "Seconds for which the last push waits for a Hub that is busy or away."}
    )
    hub_overwrite: bool = field(
        default=False, metadata={"help": "Replace a model of another method in the repository on the Hub."}
    )
    hub_training_args: bool = field(
        default=False, metadata={"help": "Publish training_args.bin, too, a pickle of the settings."}
    )
    # As in the parent, but in no repr: a dataclass writes one that shows every field.
    hub_token: str | None = field(
        default=None, repr=False, metadata=TrainingArguments.__dataclass_fields__["hub_token"].metadata
    )
    forward_mode: str = field(
        default="auto",
        metadata={
            "help": "One forward over the whole batch, or one for each segment.",
            "choices": ["auto", "fused", "separate"],
        },
    )
    resume_with_changes: list[str] | None = field(
        default=None,
        metadata={"help": "What may differ from the checkpoint resumed from: " + ", ".join(RUN_FIELDS)},
    )

    def __post_init__(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = AUTOMATIC
        self.greater_is_better = settled_direction(self.metric_for_best_model, self.greater_is_better)
        super().__post_init__()
        declare(type(self))
        settle_types(self, GerneConfig, TrainingArguments)
        check_seed("seed", self.seed)
        if self.data_seed is not None:
            check_seed("data_seed", self.data_seed)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {value!r}")
        if self.extra_metrics is not None:
            self.extra_metrics = list(check_extra_metrics(self.extra_metrics))
        check_c(self.c)
        if not math.isfinite(self.beta):
            raise ValueError(f"beta, the extrapolation factor, must be a finite number; found {self.beta}")
        if not 0.0 < self.beta_ramp <= 1.0:
            raise ValueError(f"beta_ramp, a share of the training, must lie in (0, 1]; found {self.beta_ramp}")
        check_biased_share(self.biased_share)
        if self.biased_share != 0.5 and self.plan in PLANS_WITH_BETA and self.plan != "independent":
            raise ValueError(
                f"biased_share={self.biased_share} is for the plan 'independent'; the rows of plan {self.plan!r} "
                "follow from its distributions. Leave it at 0.5, or choose the plan 'independent'"
            )
        if self.worst_examples < 0:
            raise ValueError(
                "worst_examples, the number of rows of each group to keep, must be a whole number, 0 for none; found "
                f"{self.worst_examples!r}"
            )
        if not 0 <= self.hub_patience < math.inf:
            raise ValueError(
                "hub_patience, the seconds for which the last push waits for the Hub, must be finite and not "
                f"negative; found {self.hub_patience}. With 0 nothing is pushed again"
            )
        if self.beta_schedule != "constant" and self.plan in PLANS_WITH_BETA and self.plan not in SCHEDULED_PLANS:
            raise ValueError(
                f"beta_schedule={self.beta_schedule!r} needs a plan with beta in its loss, "
                f"{' or '.join(SCHEDULED_PLANS)}; plan {self.plan!r} has it in its sampling or weights. Choose "
                "another plan, or the schedule 'constant'"
            )
        if isinstance(self.resume_with_changes, str):
            self.resume_with_changes = [self.resume_with_changes]
        unknown = [name for name in self.resume_with_changes or () if name not in RUN_FIELDS]
        if unknown:
            raise ValueError(f"resume_with_changes may name {', '.join(map(repr, RUN_FIELDS))}; found {unknown[0]!r}")
        if (
            self.prediction_loss_only
            and self.load_best_model_at_end
            and not str(self.metric_for_best_model).endswith("loss")
        ):
            raise ValueError(
                "prediction_loss_only=True leaves no predictions, and metric_for_best_model="
                f"{self.metric_for_best_model!r} selects on them. Leave it at False, or select on 'loss'"
            )
        self._check_pseudo_attributes()
        if cast(AcceleratorConfig, self.accelerator_config).split_batches:
            raise ValueError(
                "split_batches=True would give some processes only biased and others only less biased rows. Leave it "
                "False: every process then gets whole batches of the plan"
            )
        if self.train_sampling_strategy != "random":
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} has no effect here: the plan decides which "
                "rows make up a batch. Leave it at its default, 'random'"
            )
        if self.forward_mode == "separate" and self.deepspeed:
            raise ValueError(
                "forward_mode='separate' needs several backward passes a step, which DeepSpeed does not allow; choose "
                "'fused'"
            )

    def __getstate__(self) -> dict:
        """`training_args.bin` is a pickle that may go to the Hub: it holds no token, key or password."""
        state: dict[str, Any] = {**vars(self), "hub_token": None}
        for name in {one.name for one in fields(self)} - _OF_TRANSFORMERS:
            value = state.get(name)
            if is_secret(name):
                state[name] = None
            elif isinstance(value, str) and not is_harmless(value):
                state[name] = harmless_text(value)
        return state

    def __copy__(self) -> "GerneConfig":
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def _check_pseudo_attributes(self) -> None:
        for name in ("biased_learning_rate", "biased_weight_decay", "biased_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative; found {value}")
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise ValueError(
                f"threshold, the share of each class that becomes 'hard', must lie in (0, 1); found {self.threshold}"
            )
        if self.biased_folds is not None and self.biased_folds < 1:
            raise ValueError(f"biased_folds, the number of folds, must be at least 1; found {self.biased_folds}")
        if not self.pseudo_attributes:
            return
        if self.pseudo_rule == "threshold" and self.threshold is None:
            raise ValueError(
                "pseudo_rule='threshold' needs a threshold, the share t of each class that is hard. Start at the "
                "share of rows you take for a minority, 0.01 say; or leave the rule at 'auto', which needs none"
            )
        if self.threshold is not None and self.pseudo_rule not in ("auto", "threshold"):
            raise ValueError(
                f"threshold={self.threshold:g} is for the rule 'threshold', and pseudo_rule={self.pseudo_rule!r}. "
                "Give one of the two"
            )
        if self.pseudo_rule == "validation_attributes" and not self.attribute_column:
            raise ValueError(
                "pseudo_rule='validation_attributes' learns from the attributes of the evaluation set: name their "
                "column as attribute_column, or leave the rule at 'auto'"
            )
        if self.biased_model is not None and self.folds_of_biased_model > 1:
            raise ValueError(
                f"biased_model={self.biased_model!r} is one model that is trained already, and biased_folds="
                f"{self.folds_of_biased_model} trains several. Set biased_folds=1"
            )
        if self.plan == "erm":
            raise ValueError("plan 'erm' uses no attributes; pseudo_attributes=True needs another plan")

    @property
    def settled_rule(self) -> str:
        """The rule by which groups are inferred, with "auto" replaced by what it stands for."""
        if self.pseudo_rule != "auto":
            return self.pseudo_rule
        if self.threshold is not None:
            return "threshold"
        return "validation_attributes" if self.attribute_column else "validation_shift"

    @property
    def folds_of_biased_model(self) -> int:
        """Folds of the biased models: `biased_folds`, or by default 1 with the rule "threshold" and 2 with others.

        Without `pseudo_attributes` the biased model is that of JTT, in one fold.
        """
        if self.biased_folds is not None:
            return self.biased_folds
        return 2 if self.pseudo_attributes and self.settled_rule != "threshold" and self.biased_model is None else 1

    @property
    def folder(self) -> str:
        """`output_dir`, which [`~transformers.TrainingArguments`] sets if it is not given."""
        return str(self.output_dir)

    @property
    def attribute_columns(self) -> tuple[str, ...]:
        """The attribute columns as a tuple, empty without one."""
        if isinstance(self.attribute_column, str):
            return (self.attribute_column,)
        return tuple(self.attribute_column or ())


declare(GerneConfig)
