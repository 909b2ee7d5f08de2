"""The metric `group_accuracy` for the library `evaluate`: it collects rows, checks them and counts nothing itself.

Imports [`gerne_hf.evaluation.group_metrics`], which computes the figures. The README beside it is the metric's card.
"""

# evaluate finds the imports by a regular expression, line by line: one import a line, and no other code on it.
from typing import Any

import datasets
import evaluate
import numpy as np

from gerne_hf.evaluation import group_metrics

_INPUTS = ("predictions", "references", "attributes")  # the columns of a row, in the order of group_metrics

_LOAD_OVERLAPPING = '; for groups that overlap, load the metric with the configuration "overlapping"'

_DESCRIPTION = """
Accuracy of each group (label, attribute), and what follows from it: worst-group accuracy, group-balanced accuracy,
accuracy adjusted to the group frequencies of training, class-balanced and worst-class accuracy. On request F1, TPR,
FPR, AUROC and calibration error of each attribute value, the worst of each, and the equalized-odds gap.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[int]`): predicted class ids.
    references (`list[int]`): true class ids, from 0.
    attributes (`list[int]`): ids of the attribute values, from 0. Loaded with the configuration "overlapping":
        `list[list[bool]]`, which of the A attributes a row has.
    train_group_counts (array of shape `(K, A)`, *optional*): rows of each group in training; only `compute` takes it.
    label_names (`list[str]`, *optional*): names of the K classes; only `compute` takes it.
    attribute_names (`list[str]`, *optional*): names of the A attribute values; only `compute` takes it.
    extra_metrics (`list[str]`, *optional*): metrics beyond accuracy, some of "f1", "tpr", "fpr", "auroc", "ece" and
        "equalized_odds_gap"; only `compute` takes it.
    probabilities (array of shape `(N, K)`, *optional*): probabilities of the classes of all rows in the order in which
        they were added, for "auroc" and "ece"; only `compute` takes it.
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
    """Collect rows by `add`, `add_batch` or `compute`, and compute the metrics of all groups from them.

    `evaluate.load(GROUP_ACCURACY_PATH)` makes one; with `config_name="overlapping"` a row may have several attributes.
    """

    def _info(self) -> evaluate.MetricInfo:
        """Return the description of the metric and the types of its columns, which `evaluate` asks for."""
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self._columns(),
            reference_urls=["https://arxiv.org/abs/2503.13236"],
            format=None if self._overlapping else "numpy",  # which takes plain columns only
        )

    @property
    def _overlapping(self) -> bool:
        """Return whether the metric was loaded with the configuration "overlapping"."""
        if self.config_name not in ("default", "overlapping"):
            raise ValueError(f"the configurations are 'default' and 'overlapping'; found {self.config_name!r}")
        return self.config_name == "overlapping"

    def _columns(self) -> datasets.Features:
        """Return the type of each column."""
        columns = {name: datasets.Value("int64") for name in _INPUTS}
        if self._overlapping:
            columns["attributes"] = datasets.List(datasets.Value("bool"))
        return datasets.Features(columns)

    def add_batch(
        self, *, predictions: Any = None, references: Any = None, attributes: Any = None, **kwargs: Any
    ) -> None:
        """Add a batch of rows.

        Args:
            predictions (int array of shape `(B,)`): predicted class ids.
            references (int array of shape `(B,)`): true class ids.
            attributes (int array of shape `(B,)`): ids of the attribute values. Of overlapping attributes: a boolean
                array of shape `(B, A)`, which of the A attributes a row has.
            kwargs: passed to `evaluate`, which refuses unknown columns.

        Raises:
            ValueError: for columns that are missing or of different length, or values that are not integers (of
                overlapping attributes: booleans).
        """
        columns = {"predictions": predictions, "references": references, "attributes": attributes}
        super().add_batch(**{name: self._checked(name, columns[name], ndim=1) for name in _INPUTS}, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, attributes: Any = None, **kwargs: Any) -> None:
        """Add one row.

        Args:
            prediction (`int`): predicted class id.
            reference (`int`): true class id.
            attributes (`int`): id of the attribute value. Of overlapping attributes: A booleans, which of them the row
                has. The name is plural here too, because `evaluate` has singular names for the other two only.
            kwargs: passed to `evaluate`, which refuses unknown columns.

        Raises:
            ValueError: for values that are missing or not integers (of overlapping attributes: booleans).
        """
        row = {"predictions": prediction, "references": reference, "attributes": attributes}
        checked = {name: self._checked(name, row[name], ndim=0).tolist() for name in _INPUTS}
        prediction, reference = int(checked.pop("predictions")), int(checked.pop("references"))
        super().add(prediction=prediction, reference=reference, **checked, **kwargs)

    def _checked(self, name: str, values: Any, ndim: int) -> np.ndarray:
        """Return the values of a column as an array, or raise a ValueError; `ndim` is 0 for one row, 1 for a batch."""
        if self._overlapping and name == "attributes":
            return _flags(values, ndim + 1)
        return _integers(name, values, ndim)

    def _compute(
        self,
        predictions: np.ndarray,
        references: np.ndarray,
        attributes: np.ndarray,
        train_group_counts: Any = None,
        label_names: list[str] | None = None,
        attribute_names: list[str] | None = None,
        extra_metrics: list[str] | tuple[str, ...] = (),
        probabilities: Any = None,
    ) -> dict[str, Any]:
        """Return the group metrics of all rows that were added; called by `compute`."""
        return group_metrics(
            predictions,
            references,
            attributes,
            train_group_counts,
            label_names,
            attribute_names,
            extra_metrics,
            probabilities,
        )


def _flags(values: Any, ndim: int) -> np.ndarray:
    """Return overlapping attributes as an array; raise a ValueError if they are not booleans."""
    if values is None:
        raise ValueError(f"attributes missing: a row has {', '.join(_INPUTS)}")
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != ndim or (array.size and array.dtype != bool):
        raise ValueError(
            f"attributes must be a boolean an attribute in each row; found shape {array.shape} of {array.dtype}. "
            'Of attribute ids, load the metric without the configuration "overlapping"'
        )
    return array


def _integers(name: str, values: Any, ndim: int) -> np.ndarray:
    """Return the values of a column as an array; raise a ValueError if they are not integers.

    Without this check `evaluate` would turn 0.7 into 0 and "1" into 1, and say nothing.
    """
    if values is None:
        raise ValueError(f"{name} missing: a row has {', '.join(_INPUTS)}")
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype == object:  # pandas and forms store integers so at times; an array with a None stays of objects
        array = np.asarray(array.tolist())
    if array.ndim != ndim or (array.size and array.dtype.kind not in "iub"):
        more = _LOAD_OVERLAPPING if name == "attributes" else ""
        raise ValueError(
            f"{name} must be one integer a row; found shape {array.shape} of {array.dtype}. Encode strings as ids "
            f"first, for example with GroupIndex; of scores, give argmax(-1){more}"
        )
    return array
