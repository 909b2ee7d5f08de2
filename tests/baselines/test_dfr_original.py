"""DFR against a plain re-statement of the original's script, `dfr_evaluate_spurious.py`."""

import warnings

import numpy as np
import pytest
from helpers import table
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from gerne_hf import GroupIndex
from gerne_hf.baselines.dfr import INVERSE_PENALTIES, fit_last_layer

COUNTS = [[60, 40], [30, 55]]
SEED = 5


def lasso(c):
    """The original's `LogisticRegression(penalty="l1", C=c, solver="liblinear")`, by the name of either version."""
    settings = dict(C=c, solver="liblinear", random_state=SEED)
    if LogisticRegression().penalty == "l2":
        return LogisticRegression(penalty="l1", **settings)
    return LogisticRegression(l1_ratio=1.0, **settings)


def subset(x, y, g, rng):
    """As many rows of each group as the smallest has."""
    places = [np.where(g == one)[0] for one in np.unique(g)]
    least = min(len(place) for place in places)
    kept = np.concatenate([rng.permutation(place)[:least] for place in places])
    return x[kept], y[kept]


def original(x_train, x_val, y_val, g_val, rng):
    """Tune on halves, then average 20 fits; returns what decides on rows, and C."""
    order = rng.permutation(len(x_val))
    judged, fitted = order[: len(order) // 2], order[len(order) // 2 :]
    x, y = subset(x_val[fitted], y_val[fitted], g_val[fitted], rng)
    scaler = StandardScaler().fit(x)
    worst = []
    for c in [1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01]:
        model = OneVsRestClassifier(lasso(c)).fit(scaler.transform(x), y)
        right = model.predict(scaler.transform(x_val[judged])) == y_val[judged]
        worst.append(min(right[g_val[judged] == one].mean() for one in np.unique(g_val)))
    c = INVERSE_PENALTIES[int(np.argmax(worst))]
    scaler = StandardScaler().fit(x_train)
    fits = []
    for _ in range(20):
        x, y = subset(x_val, y_val, g_val, rng)
        fits.append(OneVsRestClassifier(lasso(c)).fit(scaler.transform(x), y))
    coefficients = np.mean([[one.coef_[0] for one in fit.estimators_] for fit in fits], axis=0)
    intercepts = np.mean([[one.intercept_[0] for one in fit.estimators_] for fit in fits], axis=0)
    return (lambda rows: scaler.transform(rows) @ coefficients.T + intercepts), c


@pytest.mark.parametrize("counts", [COUNTS, [[40, 25], [22, 30], [35, 24]]])
def test_the_layer_is_that_of_the_original(counts):
    groups = GroupIndex.from_dataset(table(counts, seed=2), attribute_column="place")
    labels, rng = groups.codes // 2, np.random.default_rng(1)
    features = rng.normal(size=(len(groups), 6)) * [1, 3, 0.5, 2, 1, 1] + [0, 4, 0, 0, 0, 0]
    features[:, 0] += 1.2 * labels
    features[:, 1] += 4 * (groups.codes % 2)
    train = rng.normal(size=(80, 6)) * [2, 4, 1, 2, 1, 3] + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        decision, c = original(train, features, labels, groups.codes, np.random.default_rng(SEED))
    weight, bias, penalty = fit_last_layer(features, groups, train, seed=SEED)
    logits, expected = features @ weight.T + bias, decision(features)
    assert penalty == c
    if len(counts) == 2:
        logits = (logits[:, 1] - logits[:, 0])[:, None]
    assert np.abs(logits - expected).max() < 1e-10
    assert (weight == 0).any() or c > 0.1  # an L1 penalty


def test_the_grid_of_the_original():
    assert INVERSE_PENALTIES == (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)


def test_no_warning_of_liblinear_is_left_over():
    groups = GroupIndex.from_dataset(table(COUNTS, seed=2), attribute_column="place")
    features = np.random.default_rng(0).normal(size=(len(groups), 40)) * 1e3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_last_layer(features, groups, seed=0, subsets=2)
