"""The `evaluate` metric over [`gerne_hf.group_metrics`]: it collects rows and computes nothing itself."""

# evaluate finds the imports by a regular expression, line by line: one import a line, and no other code on it.
from typing import Any

import datasets
import evaluate
import numpy as np

from gerne_hf.metrics import group_metrics

_INPUTS = ("predictions", "references", "attributes")

_DESCRIPTION = """
Accuracy of each group (label, attribute), and what follows from it: worst-group accuracy, group-balanced accuracy,
accuracy adjusted to the group frequencies of training, class-balanced and worst-class accuracy.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[int]`): predicted class ids.
    references (`list[int]`): true class ids, from 0.
    attributes (`list[int]`): ids of the attribute values, from 0.
    train_group_counts (array of shape `(K, A)`, *optional*): rows of each group in training; only `compute` takes it.
    label_names (`list[str]`, *optional*): names of the K classes; only `compute` takes it.
    attribute_names (`list[str]`, *optional*): names of the A attribute values; only `compute` takes it.
Returns:
    `dict`: what [`gerne_hf.group_metrics`] returns; accuracies are fractions in [0, 1].
Examples:
    >>> import evaluate
    >>> from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH
    >>> metric = evaluate.load(GROUP_ACCURACY_PATH)
    >>> results = metric.compute(predictions=[0, 0, 1, 0], references=[0, 0, 1, 1], attributes=[0, 1, 0, 1])
    >>> results["accuracy"], results["worst_group_accuracy"], results["worst_group"]
    (0.75, 0.0, '(1, 1)')
"""

_CITATION = """
@inproceedings{asaad2025gradient,
  title = {Gradient Extrapolation for Debiased Representation Learning},
  author = {Asaad, Ihab and Shadaydeh, Maha and Denzler, Joachim},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year = {2025}
}
@inproceedings{sagawa2020distributionally,
  title = {Distributionally Robust Neural Networks},
  author = {Sagawa, Shiori and Koh, Pang Wei and Hashimoto, Tatsunori B. and Liang, Percy},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2020}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GroupAccuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({name: datasets.Value("int64") for name in _INPUTS}),
            reference_urls=["https://arxiv.org/abs/2503.13236"],
            format="numpy",
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, attributes: Any = None, **kwargs) -> None:
        """Add a batch of rows.

        Raises:
            ValueError: for columns that are missing or of different length, or values that are not integers.
        """
        columns = zip(_INPUTS, (predictions, references, attributes), strict=True)
        super().add_batch(**{name: _integers(name, values, ndim=1) for name, values in columns}, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, attributes: Any = None, **kwargs) -> None:
        """Add one row; `evaluate` has singular names for prediction and reference alone.

        Raises:
            ValueError: for values that are missing or not integers.
        """
        row = zip(_INPUTS, (prediction, reference, attributes), strict=True)
        checked = {name: int(_integers(name, value, ndim=0)) for name, value in row}
        prediction, reference = checked.pop("predictions"), checked.pop("references")
        super().add(prediction=prediction, reference=reference, **checked, **kwargs)

    def _compute(
        self,
        predictions: np.ndarray,
        references: np.ndarray,
        attributes: np.ndarray,
        train_group_counts: Any = None,
        label_names: list[str] | None = None,
        attribute_names: list[str] | None = None,
    ) -> dict[str, Any]:
        return group_metrics(predictions, references, attributes, train_group_counts, label_names, attribute_names)


def _integers(name: str, values: Any, ndim: int) -> np.ndarray:
    """`values` as an array, if these are integers: evaluate would make 0 of 0.7 and 1 of "1", silently."""
    if values is None:
        raise ValueError(f"{name} missing: a row has {', '.join(_INPUTS)}")
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype == object:  # as pandas and forms store integers at times; None stays an object
        array = np.asarray(array.tolist())
    if array.ndim != ndim or (array.size and array.dtype.kind not in "iub"):
        raise ValueError(
            f"{name} must be one integer a row; found shape {array.shape} of {array.dtype}. Encode strings as ids "
            "first, for example with GroupIndex; of scores, give argmax(-1)"
        )
    return array
