"""Which training rows look like those that the validation set has more of: a classifier of the two sets, by class.

Where the validation set is less biased than the training set, the rows of a minority are a larger share of it. A
classifier that tells the two sets apart, within a class, therefore ranks the minority's rows first, and where nothing
differs it can tell nothing apart. Pure functions of arrays; scikit-learn fits the linear models. Next:
[`rules`](gerne_hf.pseudo_attributes.rules).
"""

import math
from dataclasses import dataclass

import numpy as np

MIN_DEVIATIONS = 4.0
"""Standard errors by which a class's rows must differ between the sets before it is split."""

MOST_ROWS = 20_000
"""Rows of a class and a set that a linear model is fitted on at most; all rows are scored."""

_FOLDS = 10
_INVERSE_PENALTY = 0.1
"""C of scikit-learn's logistic regression, for features whose rows have a squared length near one."""
_ATTRIBUTE_PENALTY = 10.0
"""The same for predicting attributes, which are easier to tell than the sets."""


@dataclass(frozen=True)
class ShiftSplit:
    """How the rows of one class differ between training and validation.

    Args:
        hard (`np.ndarray` of shape `(n,)`, bool): training rows that are more likely than not of the part of the class
            that the validation set has more of.
        evaluation_hard (`np.ndarray` of shape `(m,)`, bool): the same for the validation rows.
        auc (`float`): probability that a validation row scores above a training row; 0.5 where the sets are alike.
        deviations (`float`): by how many standard errors of the rank test that is above 0.5.
        target (`float`): estimated share of this part of the class in the validation set.
    """

    hard: np.ndarray
    evaluation_hard: np.ndarray
    auc: float
    deviations: float
    target: float

    @property
    def differs(self) -> bool:
        """Whether the sets differ beyond chance: by at least `MIN_DEVIATIONS` standard errors."""
        return self.deviations >= MIN_DEVIATIONS


def standardized(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return features with mean zero and a mean squared length of about one, by the training rows' statistics.

    Args:
        train (`np.ndarray` of shape `(N, D)`): features of the training rows.
        others (`np.ndarray` of shape `(M, D)`): features of other rows.

    Returns:
        `list[np.ndarray]`: all of them, float64. A unit that is constant in training stays near zero.
    """
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = (deviation + 1e-3 * max(float(deviation.max(initial=0.0)), 1e-12)) * math.sqrt(train.shape[1])
    return [(part - mean) / scale for part in (train, *others)]


def shift_scores(train: np.ndarray, evaluation: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Score how much a row looks like one of the validation set, each by a model that was not fitted on it.

    Args:
        train (`np.ndarray` of shape `(n, D)`): standardized features of a class's training rows.
        evaluation (`np.ndarray` of shape `(m, D)`): those of its validation rows.
        seed (`int`, defaults to `0`): seed of the folds.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: log-odds of the validation set, for sets of equal size, `(n,)` and `(m,)`.
    """
    from sklearn.linear_model import LogisticRegression

    n, m = len(train), len(evaluation)
    folds = min(_FOLDS, n, m)
    rows, of_evaluation = np.concatenate([train, evaluation]), np.r_[np.zeros(n), np.ones(m)]
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(n) % folds, rng.permutation(m) % folds])
    scores = np.zeros(n + m)
    for number in range(folds):
        own = fold == number
        fitted = np.concatenate([_some(np.flatnonzero(~own & (of_evaluation == kind)), rng) for kind in (0, 1)])
        model = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=300)
        scores[own] = model.fit(rows[fitted], of_evaluation[fitted]).decision_function(rows[own])
    return scores[:n], scores[n:]


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return all rows, or `MOST_ROWS` of them drawn at random where there are more."""
    return rows if len(rows) <= MOST_ROWS else np.sort(rng.choice(rows, MOST_ROWS, replace=False))


def split_by_shift(train_scores: np.ndarray, evaluation_scores: np.ndarray) -> ShiftSplit:
    """Split a class into the part that the validation set has more of and the rest.

    Both sets are taken for mixtures of the same two parts, the minority with shares alpha and v. The ratio of the two
    sets' densities is then between `(1 - v) / (1 - alpha)`, where there is no minority, and `v / alpha`, where there
    is nothing else; the share of the minority at a score follows from where the ratio lies between them. The ratio is
    an isotonic function of the score.

    Args:
        train_scores (`np.ndarray` of shape `(n,)`): what [`shift_scores`] returns for the training rows, each under
            the model that it was held out from.
        evaluation_scores (`np.ndarray` of shape `(F, m)`): the same for the validation rows, once for each of the F
            models.

    Returns:
        [`ShiftSplit`]
    """
    from scipy.stats import mannwhitneyu
    from sklearn.isotonic import IsotonicRegression

    copies, m = evaluation_scores.shape
    n, every = len(train_scores), copies * m
    evaluation_scores = evaluation_scores.ravel()
    auc = float(mannwhitneyu(evaluation_scores, train_scores).statistic) / (n * every)
    deviations = (auc - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))  # a row scored twice is one row
    scores, kinds = np.concatenate([train_scores, evaluation_scores]), np.r_[np.zeros(n), np.ones(every)]
    weights = np.r_[np.full(n, 1 / n), np.full(every, 1 / every)]
    share = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4).fit(scores, kinds, sample_weight=weights).predict(scores)
    ratio = share / (1 - share)
    middle = np.median(train_scores)
    lowest = min(float((evaluation_scores <= middle).mean() / (train_scores <= middle).mean()), 1.0)
    top = max((1.0 - lowest) / 2, 1.0 / m)  # half of what the validation set has more of
    cut = np.quantile(evaluation_scores, 1.0 - top)
    highest = float((evaluation_scores >= cut).mean()) / max(float((train_scores >= cut).mean()), 1 / n)
    posterior = (ratio - lowest) / max(highest - lowest, 1e-9)
    hard, evaluation_hard = posterior[:n] > 0.5, posterior[n:].reshape(copies, m).mean(axis=0) > 0.5
    target = float(np.clip(1 - lowest * (1 - hard.mean()), 0.0, 1.0))
    return ShiftSplit(hard, evaluation_hard, auc, float(deviations), target)


def attributes_from_validation(
    train: np.ndarray,
    evaluation: np.ndarray,
    attributes: np.ndarray,
    num_attributes: int,
    train_labels: np.ndarray,
    evaluation_labels: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Predict the attribute of training rows by a linear model that is fitted on validation rows with attributes.

    The shares of the attributes in training are not those in validation: within each class they are estimated by
    expectation maximization (Saerens et al., 2002), and the predictions are corrected for them. Without that most rows
    predicted as a small minority would be of the majority.

    Args:
        train (`np.ndarray` of shape `(N, D)`), evaluation (`np.ndarray` of shape `(M, D)`): standardized features.
        attributes (int array of shape `(M,)`): attribute ids of the validation rows.
        num_attributes (`int`): A.
        train_labels (int array of shape `(N,)`), evaluation_labels (int array of shape `(M,)`): class ids.
        num_classes (`int`): K.

    Returns:
        `np.ndarray` of shape `(N, A)`, float64: probability of each attribute value for each training row.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_ATTRIBUTE_PENALTY, class_weight="balanced", max_iter=300).fit(evaluation, attributes)
    likelihood = np.full((len(train), num_attributes), 1e-12)
    likelihood[:, model.classes_] = model.predict_proba(train) + 1e-12  # up to a factor, as the values weigh the same
    result = np.empty_like(likelihood)
    for label in range(num_classes):
        rows = train_labels == label
        known = np.bincount(attributes[evaluation_labels == label], minlength=num_attributes)
        shares = (known + 1.0) / (known + 1.0).sum()
        for _ in range(200):
            posterior = likelihood[rows] * shares
            posterior /= posterior.sum(axis=1, keepdims=True)
            new = posterior.mean(axis=0) if rows.any() else shares
            done, shares = np.abs(new - shares).max() < 1e-7, new
            if done:
                break
        result[rows] = posterior
    return result


def attribute_accuracy(evaluation: np.ndarray, attributes: np.ndarray) -> float:
    """Return how well attributes of validation rows are predicted by a linear model that was not fitted on them.

    Args:
        evaluation (`np.ndarray` of shape `(M, D)`): standardized features.
        attributes (int array of shape `(M,)`): attribute ids, each at least five times.

    Returns:
        `float`: accuracy in two folds, with each attribute value weighing the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LogisticRegression(C=_ATTRIBUTE_PENALTY, class_weight="balanced", max_iter=300)
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    return float(balanced_accuracy_score(attributes, cross_val_predict(model, evaluation, attributes, cv=halves)))
