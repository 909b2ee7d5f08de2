"""Metrics beyond accuracy, by attribute value: F1, TPR, FPR, AUROC, calibration error, equalized-odds gap.

Pure functions of arrays; scikit-learn computes them, and is imported when they are. Imports the names in
[`score_names`](gerne_hf.evaluation.score_names). A group of [`metrics`](gerne_hf.evaluation.metrics) is a class
together with an attribute value, and all its rows have one label; these metrics compare rows of several labels, so
they are of all rows with an attribute value.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .score_names import EXTRA_METRICS, GAP, SMALLER_IS_BETTER, check_extra_metrics, needs_probabilities, summary_keys

CALIBRATION_BINS = 15
"""Bins of the calibration error, of equal width in [0, 1], as in Guo et al. (ICML 2017)."""


def group_scores(
    extra_metrics: Sequence[str],
    predicted: np.ndarray,
    labels: np.ndarray,
    attributes: np.ndarray,
    probabilities: np.ndarray | None,
    label_names: Sequence[str],
    attribute_names: Sequence[str],
) -> dict[str, Any]:
    """Compute metrics beyond accuracy of the rows of each attribute value, and the worst of each.

    With two classes F1, TPR, FPR and AUROC are those of class 1, the positive one, as in scikit-learn. With more each
    class is taken against the rest: F1 and AUROC are means over the classes, TPR and FPR those of the worst class; the
    figures of single classes are beside them, as `f1_by_class` and so on. The TPR of a class is the accuracy of the
    group (class, attribute value).

    - `f1`: `2 TP / (2 TP + FP + FN)`; the mean leaves out classes that neither occur nor are predicted.
    - `tpr`: `TP / (TP + FN)`. `fpr`: `FP / (FP + TN)`.
    - `auroc`: the probability that a row of the class has a higher score than a row of another class.
    - `ece`: expected calibration error, the mean over rows of `|accuracy - mean confidence|` of the row's bin, for 15
      bins of equal width of the probability of the predicted class.
    - `equalized_odds_gap`: the largest difference between two attribute values in TPR or FPR, of any class (Hardt et
      al., NeurIPS 2016), as `fairlearn.metrics.equalized_odds_difference`.

    Args:
        extra_metrics (`Sequence[str]`): some of [`EXTRA_METRICS`](gerne_hf.evaluation.score_names.EXTRA_METRICS).
        predicted, labels (int arrays of shape `(N,)`): predicted and true class ids. A row with a negative prediction
            has none; it counts as one whose model is sure of a wrong class.
        attributes (int array of shape `(N,)`, or bool array of shape `(N, A)`): as for
            [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
        probabilities (float array of shape `(N, K)`, *optional*): of the classes, needed by "auroc" and "ece".
        label_names (`Sequence[str]`): names of the K classes.
        attribute_names (`Sequence[str]`): names of the A attribute values.

    Returns:
        `dict`: fractions in [0, 1], or None where a figure is not defined.

        - `overall_NAME`, `worst_NAME` of each metric: over all rows, and the worst of all attribute values that have
          one. Of the gap there is `equalized_odds_gap` alone.
        - `worst_attributes`: by metric, the attribute value that has the worst figure.
        - `attributes`: for each attribute value `attribute`, `count`, and its figure of each metric.
        - `not_defined`: sentences that say which figures are not defined, and why.

    Raises:
        ValueError: for an unknown metric, and for probabilities that are missing, of another shape, or none.

    Example: the model is right about all rows on land, and ranks one on water wrongly.

    ```python
    >>> labels, places = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    >>> scores = np.array([0.1, 0.9, 0.4, 0.2])
    >>> both = np.stack([1 - scores, scores], axis=1)
    >>> found = group_scores(["auroc", "tpr"], scores > 0.5, labels, places, both, ["0", "1"], ["land", "water"])
    >>> found["worst_auroc"], found["worst_tpr"], found["worst_attributes"]
    (0.0, 0.0, {'tpr': 'water', 'auroc': 'water'})

    ```
    """
    names = tuple(name for name in EXTRA_METRICS if name in check_extra_metrics(extra_metrics))
    predicted, labels = np.asarray(predicted).astype(np.int64), np.asarray(labels).astype(np.int64)
    if needs_probabilities(names):
        probabilities = _checked(probabilities, predicted, labels, len(label_names))
    flags = attributes if attributes.ndim == 2 else None
    measured, result = _with_rates(names), {}
    entries, rates, said = [], [], []
    for i, attribute in enumerate(attribute_names):
        rows = np.flatnonzero(attributes == i) if flags is None else np.flatnonzero(flags[:, i])
        own = None if probabilities is None else probabilities[rows]
        found = _scores_of_rows(measured, predicted[rows], labels[rows], own, len(label_names))
        rates.append(found)
        entry: dict[str, Any] = {"attribute": attribute, "count": len(rows)}
        entries.append({**entry, **_shown(names, found, len(label_names))})
        said += _not_defined(measured, attribute, labels[rows], found, label_names)
    overall = _scores_of_rows(names, predicted, labels, probabilities, len(label_names))
    worst_attributes = {}
    for name in names:
        if name == GAP:
            result[GAP] = _gap(rates)
            if result[GAP] is None:
                said.append("The equalized-odds gap is not defined: no rate is known of two attribute values.")
            continue
        worst = min if name not in SMALLER_IS_BETTER else max
        judged = [entry for entry in entries if entry[name] is not None]
        key_overall, key_worst = summary_keys(name)
        result[key_overall] = _mean(overall[name])
        result[key_worst] = None
        if judged:
            chosen = worst(judged, key=lambda entry: entry[name])
            result[key_worst], worst_attributes[name] = chosen[name], chosen["attribute"]
    return {**result, "worst_attributes": worst_attributes, "attributes": entries, "not_defined": said}


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    Args:
        confidence (float array of shape `(N,)`): the probability of each row's predicted class.
        correct (bool array of shape `(N,)`): whether the prediction is right.
        bins (`int`, defaults to `15`): bins of equal width in [0, 1], each with its upper and without its lower end.

    Returns:
        `float`: in [0, 1]; 0 for a model that is right as often as it is sure.

    Example: of four rows with 0.8 two are right.

    ```python
    >>> round(calibration_error(np.full(4, 0.8), np.array([True, True, False, False])), 6)
    0.3

    ```
    """
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence)
    return float(np.abs(np.bincount(place, weights=correct - confidence, minlength=bins)).sum() / len(confidence))


def probabilities_of(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of each row's scores in double precision, as models give logits.

    Args:
        scores (array of shape `(N, K)`): logits; a row with NaN stays one of NaN.

    Example:

    ```python
    >>> probabilities_of(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]

    ```
    """
    scores = np.asarray(scores, dtype=np.float64)
    largest = scores.max(axis=1, keepdims=True)
    endless = np.isinf(largest)  # of scores that overflowed, the largest has all
    with np.errstate(invalid="ignore"):
        powers = np.where(endless, scores == largest, np.exp(scores - largest))
    powers = np.where(np.isnan(scores).any(axis=1, keepdims=True), np.nan, powers)
    return powers / powers.sum(axis=1, keepdims=True)


def _with_rates(names: Sequence[str]) -> tuple[str, ...]:
    """Return what is measured of each attribute value: the gap comes from TPR and FPR."""
    return tuple(name for name in EXTRA_METRICS if name in names or (name in ("tpr", "fpr") and GAP in names))


def _checked(given: Any, predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the probabilities in double precision; a row without a prediction is sure of a wrong class."""
    if given is None:
        raise ValueError(
            "auroc and ece need the probabilities of the classes, and predictions hold classes alone. Give "
            "probabilities, of shape (N, K), or leave these two out of extra_metrics"
        )
    values = np.asarray(given)
    if values.ndim != 2 or len(values) != len(labels) or values.shape[1] < max(num_classes, 2):
        raise ValueError(
            f"probabilities must have the shape ({len(labels)}, {max(num_classes, 2)}), a row of data by a class; "
            f"found {values.shape}. Of two classes give both: np.stack([1 - p, p], axis=1)"
        )
    values = values.astype(np.float64)
    none = np.isnan(values).any(axis=1) | (predicted < 0)
    sure = values[~none]
    sums = sure.sum(axis=1)
    if sure.size and (sure.min() < 0 or np.abs(sums - 1).max() > 1e-3):
        row = int(np.argmax((sure.min(axis=1) < 0) | (np.abs(sums - 1) > 1e-3)))
        raise ValueError(
            f"probabilities of a row must not be negative and sum to 1; found {sure[row].tolist()[:5]}. Of logits "
            "give scipy.special.softmax(logits, axis=1)"
        )
    if predicted.max(initial=0) >= values.shape[1]:
        raise ValueError(
            f"predictions hold the class {predicted.max()}, and there are {values.shape[1]} probabilities"
        )
    if none.any():
        values[none] = np.eye(values.shape[1])[(labels[none] + 1) % values.shape[1]]
    return values


def _scores_of_rows(
    names: Sequence[str],
    predicted: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray | None,
    num_classes: int,
) -> dict[str, np.ndarray]:
    """Return by metric its figure of each class, NaN where there is none: of two classes that of class 1 alone."""
    from sklearn.metrics import f1_score, multilabel_confusion_matrix, roc_auc_score

    classes = range(num_classes) if num_classes > 2 else [1]
    found: dict[str, np.ndarray] = {}
    if not len(labels):
        return {name: np.full(len(classes), np.nan) for name in names if name != GAP}
    if "f1" in names:
        found["f1"] = np.asarray(f1_score(labels, predicted, labels=classes, average=None, zero_division=np.nan))
    if "tpr" in names or "fpr" in names:
        table = multilabel_confusion_matrix(labels, predicted, labels=classes).astype(np.float64)
        with np.errstate(invalid="ignore"):
            found["tpr"] = table[:, 1, 1] / table[:, 1].sum(axis=1)
            found["fpr"] = table[:, 0, 1] / table[:, 0].sum(axis=1)
    if "auroc" in names:
        assert probabilities is not None
        found["auroc"] = np.full(len(classes), np.nan)
        for place, k in enumerate(classes):
            own = labels == k
            if 0 < own.sum() < len(own):
                found["auroc"][place] = roc_auc_score(own, probabilities[:, k])
    if "ece" in names:
        assert probabilities is not None
        sure = np.where(predicted < 0, probabilities.argmax(axis=1), predicted)
        confidence = probabilities[np.arange(len(labels)), sure]
        found["ece"] = np.array([calibration_error(confidence, predicted == labels)])
    return {name: found[name] for name in names if name != GAP}


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of the figures that are defined, or None."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _shown(names: Sequence[str], found: dict[str, np.ndarray], num_classes: int) -> dict[str, Any]:
    """Return the figures of an attribute value: one of each metric, and with more classes than two those of each."""
    shown: dict[str, Any] = {}
    for name in names:
        if name == GAP:
            continue
        values = found[name]
        defined = values[~np.isnan(values)]
        if name in ("tpr", "fpr") and len(defined):
            shown[name] = float(defined.min() if name == "tpr" else defined.max())
        else:
            shown[name] = _mean(values)
        if num_classes > 2 and name != "ece":
            shown[f"{name}_by_class"] = [None if np.isnan(value) else float(value) for value in values]
    return shown


def _gap(rates: Sequence[dict[str, np.ndarray]]) -> float | None:
    """Return the largest difference between two attribute values in the TPR or FPR of any class."""
    gaps = []
    for name in ("tpr", "fpr"):
        table = np.stack([found[name] for found in rates])  # (A, classes)
        for column in table.T:
            defined = column[~np.isnan(column)]
            if len(defined) > 1:
                gaps.append(float(defined.max() - defined.min()))
    return max(gaps, default=None)


def _not_defined(
    names: Sequence[str],
    attribute: str,
    labels: np.ndarray,
    found: dict[str, np.ndarray],
    label_names: Sequence[str],
) -> list[str]:
    """Return a sentence that says which figures of an attribute value are not defined and why; none if all are."""
    lacking = {name: np.isnan(found[name]) for name in names if name != GAP and np.isnan(found[name]).any()}
    titles = ", ".join(EXTRA_METRICS[name] for name in lacking)
    if not lacking:
        return []
    if not len(labels):
        return [f"{titles} of {attribute}: not defined, as no row has this attribute value."]
    present = np.unique(labels)
    if len(present) == 1:
        rows = f"its {len(labels):,} rows are all" if len(labels) > 1 else "its single row is"
        return [f"{titles} of {attribute}: not defined, as {rows} of class {label_names[present[0]]}."]
    absent = [name for k, name in enumerate(label_names) if k not in present]
    left_out = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
    return [
        f"{titles} of {attribute}: without the class{'es' if len(absent) > 1 else ''} {left_out}, as none of its "
        f"{len(labels):,} rows is of {'these' if len(absent) > 1 else 'it'}."
    ]
