"""`GerneConfig`: `TrainingArguments` with the settings of GERNE."""

import math
from dataclasses import dataclass, field

from transformers import TrainingArguments

from .distributions import check_c
from .plans import PLANS

_CHOICES = {
    "plan": PLANS,
    "forward_mode": ("auto", "fused", "separate"),
    "empty_groups": ("error", "ignore"),
    "beta_out_of_bounds": ("error", "warn", "ignore"),
}


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
            product is then the attribute. Needed by every plan but `erm`.
        label_column (`str`, *optional*):
            The column that holds the class; the first of `label`, `labels`, `label_ids` that exists if not given.
        empty_groups (`str`, *optional*, defaults to `"error"`):
            What to do about a group without training rows: "error" refuses it, "ignore" gives its mass to the other
            groups of its class.

        > Method

        plan (`str`, *optional*, defaults to `"independent"`):
            The make-up of a batch: "independent" (GERNE as in the paper), "shared" or "collapsed" (the same expected
            gradient at less cost and less noise), "erm", "resampling" or "reweighting". See [`BatchPlan.build`].
        c (`float`, *optional*, defaults to `0.5`):
            Degree of bias reduction of the less biased batch (Eq. 4), in (0, 1].
        beta (`float`, *optional*, defaults to `1.0`):
            Extrapolation factor (Eq. 5). -1 is class-balanced ERM; c (beta + 1) = 1, as with the defaults, balances
            the groups in expectation; above that minority groups are over-represented, up to the bound of Eq. 9.
        beta_out_of_bounds (`str`, *optional*, defaults to `"error"`):
            What to do about a beta outside the bounds of Eq. 9: "error", "warn" or "ignore".
        class_balanced (`bool`, *optional*, defaults to `True`):
            Whether classes are drawn equally often, as in the paper, or as often as they occur.

        > Computation

        forward_mode (`str`, *optional*, defaults to `"auto"`):
            "fused" runs one forward and backward over all rows. "separate" runs one for each segment: BatchNorm
            statistics are those of each batch, as in the paper, and activations take about half the memory. "auto"
            is "separate" if the model has a BatchNorm layer in training mode, else "fused".

    Raises:
        ValueError: for values outside those listed, `split_batches`, or another `train_sampling_strategy`.
    """

    attribute_column: list[str] | None = field(
        default=None,
        metadata={"help": "Column that holds the attribute; several columns: their product."},
    )
    label_column: str | None = field(
        default=None,
        metadata={"help": "Column that holds the class; the first of label, labels, label_ids if not given."},
    )
    plan: str = field(
        default="independent", metadata={"help": "Make-up of a batch: " + ", ".join(PLANS), "choices": list(PLANS)}
    )
    c: float = field(default=0.5, metadata={"help": "Degree of bias reduction of the less biased batch, in (0, 1]."})
    beta: float = field(default=1.0, metadata={"help": "Extrapolation factor, inside the bounds of Eq. 9."})
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
    forward_mode: str = field(
        default="auto",
        metadata={
            "help": "One forward over the whole batch, or one for each segment.",
            "choices": ["auto", "fused", "separate"],
        },
    )

    def __post_init__(self):
        super().__post_init__()
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {value!r}")
        check_c(self.c)
        if not math.isfinite(self.beta):
            raise ValueError(f"beta, the extrapolation factor, must be a finite number; found {self.beta}")
        if self.accelerator_config.split_batches:
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

    @property
    def attribute_columns(self) -> tuple[str, ...]:
        """The attribute columns as a tuple, empty without one."""
        if isinstance(self.attribute_column, str):
            return (self.attribute_column,)
        return tuple(self.attribute_column or ())
