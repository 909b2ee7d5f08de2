"""Metrics beyond accuracy against fairlearn and scikit-learn, and what is said where they are not defined."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, equalized_odds_difference, false_positive_rate, true_positive_rate
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from gerne_hf import group_metrics
from gerne_hf.evaluation.group_scores import CALIBRATION_BINS, calibration_error, probabilities_of
from gerne_hf.evaluation.metrics import flatten_group_metrics
from gerne_hf.evaluation.score_names import EXTRA_METRICS, summary_keys

ALL = list(EXTRA_METRICS)
EXACT = dict(rel=0, abs=1e-12)


def rows(seed, count=400, classes=2, values=3):
    rng = np.random.default_rng(seed)
    labels, places = rng.integers(0, classes, count), rng.integers(0, values, count)
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels] * (1 + places[:, None])
    return probabilities_of(logits), labels, places


def by_curve(probabilities, labels):
    """The calibration error from scikit-learn's calibration curve, whose bins are weighted by their rows."""
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    right, sure = calibration_curve(hits, confidence, n_bins=CALIBRATION_BINS, strategy="uniform")
    place = np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], confidence)
    counts = np.bincount(place)
    return float(np.average(np.abs(right - sure), weights=counts[counts > 0]))


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_equal_fairlearn_and_scikit_learn(seed):
    probabilities, labels, places = rows(seed)
    predicted = probabilities.argmax(axis=1)
    result = group_metrics(probabilities, labels, places, extra_metrics=ALL)
    assert group_metrics(predicted, labels, places, extra_metrics=ALL, probabilities=probabilities) == result
    metrics = {"f1": f1_score, "tpr": true_positive_rate, "fpr": false_positive_rate}
    frame = MetricFrame(metrics=metrics, y_true=labels, y_pred=predicted, sensitive_features=places)
    ranked = MetricFrame(metrics=roc_auc_score, y_true=labels, y_pred=probabilities[:, 1], sensitive_features=places)
    calibrated = {a: by_curve(probabilities[places == a], labels[places == a]) for a in range(3)}
    for a, entry in enumerate(result["attributes"]):
        assert entry["attribute"] == str(a) and entry["count"] == (places == a).sum()
        for name in metrics:
            assert entry[name] == pytest.approx(frame.by_group.loc[a, name], **EXACT)
        assert entry["auroc"] == pytest.approx(ranked.by_group[a], **EXACT)
        assert entry["ece"] == pytest.approx(calibrated[a], **EXACT)
    for name in ("f1", "tpr"):
        assert result[f"worst_{name}"] == pytest.approx(frame.group_min()[name], **EXACT)
        assert result[f"overall_{name}"] == pytest.approx(frame.overall[name], **EXACT)
    assert result["worst_fpr"] == pytest.approx(frame.group_max()["fpr"], **EXACT)
    assert result["worst_auroc"] == pytest.approx(ranked.group_min(), **EXACT)
    assert result["overall_auroc"] == pytest.approx(roc_auc_score(labels, probabilities[:, 1]), **EXACT)
    assert result["worst_ece"] == pytest.approx(max(calibrated.values()), **EXACT)
    assert result["overall_ece"] == pytest.approx(by_curve(probabilities, labels), **EXACT)
    gap = equalized_odds_difference(labels, predicted, sensitive_features=places)
    assert result["equalized_odds_gap"] == pytest.approx(gap, **EXACT) and gap > 0.05
    worst = int(np.argmin([entry["auroc"] for entry in result["attributes"]]))
    assert result["worst_attributes"]["auroc"] == str(worst) and result["not_defined"] == []
    # TPR is the accuracy of the group (class 1, attribute value)
    assert [g["accuracy"] for g in result["groups"][3:]] == pytest.approx([e["tpr"] for e in result["attributes"]])


@pytest.mark.parametrize("seed", range(3))
def test_more_classes_are_taken_one_against_the_rest(seed):
    probabilities, labels, places = rows(seed, classes=4)
    predicted = probabilities.argmax(axis=1)
    result = group_metrics(probabilities, labels, places, extra_metrics=ALL)
    rates = {}
    for a, entry in enumerate(result["attributes"]):
        own = places == a
        y, found, p = labels[own], predicted[own], probabilities[own]
        assert entry["f1"] == pytest.approx(f1_score(y, found, average="macro"), **EXACT)
        assert entry["f1_by_class"] == pytest.approx(f1_score(y, found, average=None).tolist(), **EXACT)
        auroc = roc_auc_score(y, p, multi_class="ovr", average="macro")
        assert entry["auroc"] == pytest.approx(auroc, **EXACT)
        tpr = recall_score(y, found, average=None).tolist()
        fpr = [float(false_positive_rate(y == k, found == k, pos_label=True)) for k in range(4)]
        assert entry["tpr_by_class"] == pytest.approx(tpr, **EXACT) and entry["tpr"] == min(entry["tpr_by_class"])
        assert entry["fpr_by_class"] == pytest.approx(fpr, **EXACT) and entry["fpr"] == max(entry["fpr_by_class"])
        assert entry["ece"] == pytest.approx(by_curve(p, y), **EXACT)
        rates[a] = np.array([*tpr, *fpr])
    spread = np.ptp(np.stack(list(rates.values())), axis=0).max()
    assert result["equalized_odds_gap"] == pytest.approx(spread, **EXACT)
    gaps = [equalized_odds_difference(labels == k, predicted == k, sensitive_features=places) for k in range(4)]
    assert result["equalized_odds_gap"] == pytest.approx(max(gaps), **EXACT)
    assert result["worst_tpr"] == result["worst_group_accuracy"]
    assert result["overall_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"), **EXACT)


def test_rows_may_have_several_attributes():
    probabilities, labels, _ = rows(0)
    flags = np.random.default_rng(1).random((400, 3)) < 0.4
    result = group_metrics(probabilities, labels, flags, extra_metrics=ALL)
    for a, entry in enumerate(result["attributes"]):
        own = flags[:, a]
        assert entry["count"] == own.sum()
        assert entry["auroc"] == pytest.approx(roc_auc_score(labels[own], probabilities[own, 1]), **EXACT)
    assert result["overall_ece"] == pytest.approx(by_curve(probabilities, labels), **EXACT)


def test_one_class_with_an_attribute_value_is_said_and_is_in_no_worst_figure():
    labels, places = [0, 1, 0, 0, 0, 1], ["land", "land", "sea", "sea", "sea", "air"]
    scores = np.array([0.1, 0.9, 0.2, 0.3, 0.7, 0.6])
    probabilities = np.stack([1 - scores, scores], axis=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = group_metrics(probabilities, labels, places, extra_metrics=ALL)
    by_name = {entry["attribute"]: entry for entry in result["attributes"]}
    assert by_name["sea"]["auroc"] is by_name["sea"]["tpr"] is by_name["air"]["fpr"] is None
    assert by_name["sea"]["fpr"] == pytest.approx(1 / 3) and by_name["sea"]["f1"] == 0.0
    assert result["worst_auroc"] == 1.0 and result["worst_attributes"]["auroc"] == "land"
    assert result["not_defined"] == [
        "FPR, AUROC of air: not defined, as its single row is of class 1.",
        "TPR, AUROC of sea: not defined, as its 3 rows are all of class 0.",
    ]
    assert [str(one.message) for one in caught] == result["not_defined"]
    assert "NaN" not in json.dumps(result)
    flat = flatten_group_metrics(result)
    assert "attribute_auroc/sea" not in flat and flat["attribute_auroc/land"] == flat["worst_auroc"] == 1.0


def test_classes_that_an_attribute_value_lacks_are_left_out_and_named():
    probabilities, labels, places = rows(0, classes=4)
    kept = (places != 2) | (labels < 2)
    with pytest.warns(UserWarning, match="TPR, AUROC of 2: without the classes 2, 3, as none of its"):
        result = group_metrics(probabilities[kept], labels[kept], places[kept], extra_metrics=["tpr", "auroc"])
    own = result["attributes"][2]
    assert own["auroc_by_class"][2:] == own["tpr_by_class"][2:] == [None, None]
    assert own["auroc"] == pytest.approx(np.mean(own["auroc_by_class"][:2]))


@pytest.mark.filterwarnings("ignore:TPR of")
def test_nothing_is_defined():
    with pytest.warns(UserWarning, match="TPR of 0: not defined, as its single row is of class 0"):
        result = group_metrics([0, 0], [0, 0], [0, 1], extra_metrics=["tpr", "equalized_odds_gap"])
    with pytest.warns(UserWarning, match="equalized-odds gap is not defined: no rate is known of two"):
        one = group_metrics([0, 1], [0, 1], [0, 0], extra_metrics=["equalized_odds_gap"])
    assert result["worst_tpr"] is result["overall_tpr"] is one["equalized_odds_gap"] is None
    assert result["equalized_odds_gap"] == 0.0  # by the false positive rates
    assert "worst_tpr" not in flatten_group_metrics(result)


def test_rows_without_a_prediction_count_as_surely_wrong():
    given = np.array([[0.1, 0.9], [0.8, 0.2], [np.nan, 0.5], [0.7, 0.3]])
    sure = given.copy()
    sure[2] = [1.0, 0.0]
    labels = [1, 0, 1, 0]
    found = group_metrics(given, labels, [0] * 4, extra_metrics=["auroc", "ece", "f1"])
    same = group_metrics(sure, labels, [0] * 4, extra_metrics=["auroc", "ece", "f1"])
    assert found.pop("rows_without_prediction") == 1 and found == same and found["worst_auroc"] == 0.5


def test_logits_that_overflow():
    scores = np.array([[np.inf, 0.0, -np.inf], [0.0, 700.0, -np.inf], [np.nan, 0.0, 0.0]])
    assert probabilities_of(scores)[:2] == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=1e-300)
    assert np.isnan(probabilities_of(scores)[2]).all()


def test_the_bins_have_their_upper_ends():
    edges = np.linspace(0, 1, 16)
    assert calibration_error(edges[1:], np.ones(15, dtype=bool)) == pytest.approx((1 - edges[1:]).mean())
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0


def test_figures_are_only_those_that_were_asked_for():
    plain = group_metrics([0, 1], [0, 1], [0, 1])
    assert not {"attributes", "not_defined", "worst_f1"} & set(plain)
    some = group_metrics([0, 1, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], extra_metrics=["f1", "equalized_odds_gap"])
    assert set(some) - set(plain) == {
        *("overall_f1", "worst_f1", "equalized_odds_gap", "worst_attributes", "attributes", "not_defined")
    }
    assert summary_keys("f1") == ("overall_f1", "worst_f1")
    assert set(some["attributes"][0]) == {"attribute", "count", "f1"}


def test_importing_group_metrics_imports_no_heavy_library():
    code = (
        "import sys; from gerne_hf.evaluation import group_metrics; group_metrics([0], [0], [0]); "
        "print([name for name in ('torch', 'sklearn', 'pandas', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"extra_metrics": ["auc"]}, "extra_metrics may name 'f1', .*'equalized_odds_gap'; found 'auc'"),
        ({"extra_metrics": ["auroc"]}, "auroc and ece need the probabilities.*Give probabilities"),
        ({"predictions": [[2.0, -1.0], [0.5, 0.5]], "extra_metrics": ["ece"]}, "sum to 1; found .2.0, -1.0.*softmax"),
        ({"probabilities": [0.5, 0.4], "extra_metrics": ["ece"]}, r"shape \(2, 2\).*found \(2,\).*np.stack"),
        ({"probabilities": [[0.5, 0.5]], "extra_metrics": ["ece"]}, r"shape \(2, 2\).*found \(1, 2\)"),
        ({"predictions": [0, 5], "probabilities": np.full((2, 2), 0.5), "extra_metrics": ["ece"]}, "the class 5"),
    ],
)
def test_what_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        group_metrics(**{"predictions": [0, 1], "references": [0, 1], "attributes": [0, 0], **changed})
