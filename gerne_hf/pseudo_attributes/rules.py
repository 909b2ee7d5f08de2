"""`infer_groups`: from the scores of a biased model to groups of training and validation rows, by one of five rules.

Pure functions of arrays. The rules' names are in [`pseudo_groups`](gerne_hf.method.pseudo_groups), the linear models
in [`shift`](gerne_hf.pseudo_attributes.shift), and who calls this in [`scores`](gerne_hf.pseudo_attributes.scores).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..groups.index import GroupIndex
from ..groups.proportions import uniform_target
from ..method.pseudo_groups import EASY, HARD, PSEUDO_NAMES, RULES, check_threshold, hard_counts
from .shift import attribute_accuracy, attributes_from_validation, shift_scores, split_by_shift, standardized

MIN_HARD_ROWS = 5
"""A class with fewer hard rows than these is left whole: nothing can be learned from so few."""

MAX_TARGET = 0.9
"""Largest share of its class that the hard part is drawn with."""

BELOW_EVEN = 0.8
"""A predicted attribute value is a minority of a class if it is smaller than this times an even share of the class.
What is nearly balanced is left whole, as subtracting nearly equal batches would add noise alone."""

MIN_ROWS_OF_VALUE = 5
"""Validation rows that each attribute value needs, for the rule "validation_attributes"."""

Threshold = float | Mapping[str, float | None]


@dataclass(frozen=True)
class ScoredRows:
    """What biased models say of the training rows, each row scored by a model that was not trained on it.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`, float32): probability of each class.
        labels (`np.ndarray` of shape `(N,)`, int64): class ids.
        folds (`np.ndarray` of shape `(N,)`, int): number of the model that scored the row, from 0.
        features (`np.ndarray` of shape `(N, D)`, *optional*): what that model gives to its head for the row.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    features: np.ndarray | None = None

    @property
    def scores(self) -> np.ndarray:
        """Probability of each row's own class, `(N,)`."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]


@dataclass(frozen=True)
class ScoredEvaluation:
    """What the same biased models say of the validation rows, each model of all rows.

    Args:
        probabilities (`np.ndarray` of shape `(F, M, K)`, float32): by model, probability of each class.
        labels (`np.ndarray` of shape `(M,)`, int64): class ids.
        features (`np.ndarray` of shape `(F, M, D)`, *optional*): by model, what it gives to its head.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    features: np.ndarray | None = None

    @property
    def scores(self) -> np.ndarray:
        """Probability of each row's own class, the mean over the models, `(M,)`."""
        return self.probabilities.mean(axis=0)[np.arange(len(self.labels)), self.labels]


@dataclass(frozen=True)
class ClassSplit:
    """How one class was split, and why.

    Args:
        name (`str`): the class.
        rows (`int`), hard (`int`): its training rows, and how many of them are hard. With the rule
            "validation_attributes" the hard rows are those of attribute values below their even share.
        target (`float`): share of the class's training mass that the hard rows get, with `c (beta + 1) = 1`.
        reason (`str`): why it was split or left whole.
    """

    name: str
    rows: int
    hard: int
    target: float
    reason: str


@dataclass(frozen=True, eq=False)
class InferredGroups:
    """Groups of training and validation rows that stand in for unknown ones.

    Args:
        rule (`str`): the rule that made them.
        index ([`GroupIndex`]): the training rows.
        target (`np.ndarray` of shape `(K, A)`): the distribution within each class that training balances towards.
            It takes the place of the uniform one of Eq. 4, and is that for all but the rule "validation_shift".
        classes (`tuple[ClassSplit, ...]`): how each class was split, and why.
        evaluation ([`GroupIndex`], *optional*): the validation rows by the same rule; None without scores of them.
    """

    rule: str
    index: GroupIndex
    target: np.ndarray
    classes: tuple[ClassSplit, ...]
    evaluation: GroupIndex | None = None

    @property
    def hard(self) -> np.ndarray:
        """Which training rows are hard, bool, `(N,)`; by predicted attributes, those of values below an even share."""
        return self.minority.ravel()[self.index.codes]

    @property
    def minority(self) -> np.ndarray:
        """Which groups the hard rows are in, bool, `(K, A)`; none of a class that is left whole."""
        counts = self.index.counts
        if self.rule != "validation_attributes":
            minority = np.zeros(counts.shape, dtype=bool)
            minority[:, HARD] = True
        else:
            minority = np.stack([_minority_values(row) for row in counts])
        minority[[split.hard == 0 for split in self.classes]] = False
        return minority

    @property
    def whole(self) -> bool:
        """Whether no class was split: training is then class-balanced ERM."""
        return not any(split.hard for split in self.classes)


def infer_groups(
    rows: ScoredRows,
    label_names: Sequence[str],
    rule: str = "validation_shift",
    *,
    threshold: Threshold | None = None,
    evaluation: ScoredEvaluation | None = None,
    attributes: np.ndarray | None = None,
    attribute_names: Sequence[str] = (),
) -> InferredGroups:
    """Infer groups of training and validation rows from scores.

    | rule | hard rows of a class |
    |---|---|
    | "validation_shift" | those like the rows that the validation set has more of; none if the sets are alike |
    | "confident_mistakes" | probability of the own class below `1 / (2 K)` |
    | "mistakes" | predicted as another class |
    | "threshold" | the share t with the lowest probability of the own class (the paper's Algorithm 2) |
    | "validation_attributes" | none; attribute values are predicted by a linear model of the validation rows |

    With scores of a validation set, "confident_mistakes" and "mistakes" leave a class whole whose hard rows are no
    larger share of the validation set than of the training set, as it is with rows that are hard in themselves or
    mislabelled. A class with fewer than `MIN_HARD_ROWS` hard rows is left whole by all rules but "threshold"; by
    "validation_attributes" these are the rows of all values below an even share together, and a value with fewer rows
    of a class is drawn in proportion: one of 2 rows two fifths as often as one of 5 or more.

    Args:
        rows ([`ScoredRows`]): the training rows.
        label_names (`Sequence[str]`): names of the K classes.
        rule (`str`, defaults to `"validation_shift"`): one of the rules above.
        threshold (`float` or `Mapping`, *optional*): t of the rule "threshold", in (0, 1), or by the name of each
            class its t, None for a class to leave whole.
        evaluation ([`ScoredEvaluation`], *optional*): the validation rows. Needed by the two rules named after them.
        attributes (int array of shape `(M,)`, *optional*): attribute ids of the validation rows.
        attribute_names (`Sequence[str]`, *optional*): names of the A attribute values.

    Returns:
        [`InferredGroups`]

    Raises:
        ValueError: for an unknown rule, for what a rule needs and lacks, a mapping that lacks a class or names an
            unknown one, and validation attributes with fewer than `MIN_ROWS_OF_VALUE` rows of a value (named).

    Example:

    ```python
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]], dtype=np.float32)
    >>> rows = ScoredRows(probabilities, np.array([0, 0, 0, 1]), np.zeros(4, dtype=int))
    >>> found = infer_groups(rows, ["cat", "dog"], "threshold", threshold={"cat": 0.4, "dog": None})
    >>> found.index.counts.tolist(), found.classes[1].reason
    ([[1, 2], [0, 1]], 'left whole as asked')

    ```
    """
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {', '.join(map(repr, RULES))}; found {rule!r}")
    if rule.startswith("validation_") and evaluation is None:
        raise ValueError(
            f"the rule {rule!r} needs scores of a validation set. Give an eval_dataset, or choose "
            "'confident_mistakes', 'mistakes' or 'threshold', for which nothing shows whether a class has a minority"
        )
    names = tuple(label_names)
    if rule == "validation_attributes":
        assert evaluation is not None
        return _by_attributes(rows, names, evaluation, attributes, tuple(attribute_names))
    if rule == "threshold":
        hard, of_evaluation, reasons = _by_threshold(rows, names, threshold, evaluation)
        targets = np.full(len(names), 0.5)
    elif rule == "validation_shift":
        assert evaluation is not None
        hard, of_evaluation, reasons, targets = _by_shift(rows, names, evaluation)
    else:
        hard, of_evaluation, reasons = _by_mistakes(rows, names, evaluation, rule)
        targets = np.full(len(names), 0.5)
    index = _index(rows.labels, names, hard)
    present = index.counts > 0
    target = uniform_target(index.counts)
    both = present.all(axis=1)
    target[both, HARD], target[both, EASY] = targets[both], 1 - targets[both]
    classes = tuple(
        ClassSplit(name, int(index.counts[k].sum()), int(index.counts[k, HARD]), float(target[k, HARD]), reasons[k])
        for k, name in enumerate(names)
    )
    inferred = None if evaluation is None else _index(evaluation.labels, names, of_evaluation)
    return InferredGroups(rule, index, target, classes, inferred)


def _index(labels: np.ndarray, names: tuple[str, ...], hard: np.ndarray) -> GroupIndex:
    attributes = np.where(hard, HARD, EASY).astype(np.uint8)
    return GroupIndex.from_codes(labels.astype(np.uint32), names, [(attributes, PSEUDO_NAMES)])


Split = tuple[np.ndarray, np.ndarray, list[str]]


def _nothing(rows: ScoredRows, evaluation: ScoredEvaluation | None) -> tuple[np.ndarray, np.ndarray]:
    size = 0 if evaluation is None else len(evaluation.labels)
    return np.zeros(len(rows.labels), dtype=bool), np.zeros(size, dtype=bool)


def _by_threshold(
    rows: ScoredRows, names: tuple[str, ...], threshold: Threshold | None, evaluation: ScoredEvaluation | None
) -> Split:
    if threshold is None:
        raise ValueError("the rule 'threshold' needs a threshold, the share t of each class that is hard, in (0, 1)")
    if isinstance(threshold, Mapping):
        lacking = [name for name in names if name not in threshold]
        unknown = [str(name) for name in threshold if name not in names]
        if lacking or unknown:
            what = f"lacks class {lacking[0]!r}" if lacking else f"names {unknown[0]!r}, which is no class"
            raise ValueError(
                f"the thresholds by class are a mapping that {what}; the classes are {', '.join(map(repr, names))}. "
                "Give each class its t, or None to leave it whole"
            )
        by_class = [threshold[name] for name in names]
    else:
        by_class = [float(threshold)] * len(names)
    hard, of_evaluation = _nothing(rows, evaluation)
    reasons = []
    for label, (name, share) in enumerate(zip(names, by_class, strict=True)):
        if share is None:
            reasons.append("left whole as asked")
            continue
        own = np.flatnonzero(rows.labels == label)
        check_threshold([len(own)], share, [name])
        order = own[np.argsort(rows.scores[own], kind="stable")]
        count = int(hard_counts([len(own)], share)[0])
        hard[order[:count]] = True
        if evaluation is not None:
            of_evaluation |= (evaluation.labels == label) & (evaluation.scores <= rows.scores[order[count - 1]])
        reasons.append(f"the share t = {share:g} with the lowest probability of the class")
    return hard, of_evaluation, reasons


def _by_mistakes(rows: ScoredRows, names: tuple[str, ...], evaluation: ScoredEvaluation | None, rule: str) -> Split:
    def wrong(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if rule == "mistakes":
            return probabilities.argmax(axis=-1) != labels
        return probabilities[..., np.arange(len(labels)), labels] < 1 / (2 * len(names))

    hard, of_evaluation = _nothing(rows, evaluation)
    found = wrong(rows.probabilities, rows.labels)
    reasons = []
    for label in range(len(names)):
        own = rows.labels == label
        count, total = int((found & own).sum()), int(own.sum())
        if count < MIN_HARD_ROWS:
            reasons.append(f"left whole: {count} of {total} rows are hard, and {MIN_HARD_ROWS} are needed")
            continue
        if 2 * count > total:
            reasons.append(f"left whole: {count} of {total} rows are hard, so the biased models have not learned it")
            continue
        if evaluation is not None:
            of_class = evaluation.labels == label
            shares = np.stack([wrong(p, evaluation.labels)[of_class] for p in evaluation.probabilities]).mean(axis=0)
            share, expected = float(shares.mean()) if of_class.any() else 0.0, count / total
            error = np.sqrt(expected * (1 - expected) / total + share * (1 - share) / max(of_class.sum(), 1))
            if share - expected < 3 * max(error, 1e-12):
                reasons.append(
                    f"left whole: {100 * expected:.1f} % of its training rows and {100 * share:.1f} % of its "
                    "validation rows are hard, so nothing shows a minority that training has too little of"
                )
                continue
            of_evaluation[of_class] = shares > 0.5
            more = f"; {100 * share:.1f} % of its validation rows are hard"
        else:
            more = "; without a validation set nothing shows whether they are a minority"
        hard |= found & own
        reasons.append(f"{100 * count / total:.1f} % of its training rows are {rule.replace('_', ' ')}{more}")
    return hard, of_evaluation, reasons


def _features(rows: ScoredRows, evaluation: ScoredEvaluation, number: int) -> list[np.ndarray]:
    """Return standardized features of one model: what its head is given, or where there is no head its logits."""
    if rows.features is not None and evaluation.features is not None:
        return standardized(rows.features[rows.folds == number], evaluation.features[number])
    known = (rows.probabilities[rows.folds == number], evaluation.probabilities[number])
    return standardized(*(np.log(np.clip(part, 1e-7, 1.0)) for part in known))


def _by_shift(
    rows: ScoredRows, names: tuple[str, ...], evaluation: ScoredEvaluation
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    hard, of_evaluation = _nothing(rows, evaluation)
    targets, reasons = np.full(len(names), 0.5), []
    models = range(len(evaluation.probabilities))
    features = [_features(rows, evaluation, number) for number in models]
    for label in range(len(names)):
        of_class = evaluation.labels == label
        own = [np.flatnonzero((rows.labels == label) & (rows.folds == number)) for number in models]
        if of_class.sum() < 2 * MIN_HARD_ROWS or sum(map(len, own)) < 2 * MIN_HARD_ROWS:
            few, total = int(of_class.sum()), sum(map(len, own))
            reasons.append(
                f"left whole: {total} training and {few} validation rows are too few to compare, "
                f"{2 * MIN_HARD_ROWS} of each are needed"
            )
            continue
        scored = [
            shift_scores(train[rows.labels[rows.folds == number] == label], held_out[of_class])
            for number, (train, held_out) in enumerate(features)
        ]
        split = split_by_shift(np.concatenate([s[0] for s in scored]), np.stack([s[1] for s in scored]))
        alike = f"AUC {split.auc:.2f}, {split.deviations:.1f} standard errors"
        if not split.differs:
            reasons.append(f"left whole: its training and validation rows are alike ({alike})")
            continue
        count = int(split.hard.sum())
        if count < MIN_HARD_ROWS or count > len(split.hard) / 2:
            reasons.append(f"left whole: the sets differ ({alike}), but not by a minority ({count} rows)")
            continue
        hard[np.concatenate(own)[split.hard]] = True
        of_evaluation[np.flatnonzero(of_class)[split.evaluation_hard]] = True
        targets[label] = np.clip(split.target, 0.5, MAX_TARGET)
        shares = f"about {100 * split.target:.0f} % of its validation rows and {100 * split.hard.mean():.1f} %"
        reasons.append(f"they are {shares} of its training rows ({alike})")
    return hard, of_evaluation, reasons, targets


def _by_attributes(
    rows: ScoredRows,
    names: tuple[str, ...],
    evaluation: ScoredEvaluation,
    attributes: np.ndarray | None,
    attribute_names: tuple[str, ...],
) -> InferredGroups:
    attributes = known_attributes(attributes, attribute_names)
    predicted, size = np.zeros(len(rows.labels), dtype=np.int64), len(attribute_names)
    right = []
    for number in range(len(evaluation.probabilities)):
        own = rows.folds == number
        train, held_out = _features(rows, evaluation, number)
        right.append(attribute_accuracy(held_out, attributes))
        predicted[own] = attributes_from_validation(
            train, held_out, attributes, size, rows.labels[own], evaluation.labels, len(names)
        ).argmax(axis=1)
    accuracy, needed = float(np.mean(right)), (1 + 1 / size) / 2
    index = GroupIndex.from_codes(
        rows.labels.astype(np.uint32), names, [(predicted.astype(np.uint32), attribute_names)]
    )
    target = index.alpha.copy()
    told = (
        f"{100 * accuracy:.0f} % of the validation rows' attributes, each value weighing the same, are predicted right"
    )
    classes = []
    for label, name in enumerate(names):
        counts = index.counts[label]
        minority = _minority_values(counts)
        few, reason = int(counts[minority].sum()), told
        if accuracy < needed:
            few, reason = 0, f"left whole: only {told}, and {100 * needed:.0f} % are needed"
        elif not few:
            reason = f"left whole: fewer than {MIN_HARD_ROWS} rows have a value well below an even share; {told}"
        else:
            weights = np.minimum(counts, MIN_HARD_ROWS)  # a single row must not get the mass of a whole value
            target[label] = weights / weights.sum()
        classes.append(ClassSplit(name, int(counts.sum()), few, float(target[label][minority].sum()), reason))
    of_evaluation = [(attributes.astype(np.uint32), attribute_names)]
    inferred = GroupIndex.from_codes(evaluation.labels.astype(np.uint32), names, of_evaluation)
    return InferredGroups("validation_attributes", index, target, tuple(classes), inferred)


def known_attributes(attributes: np.ndarray | None, attribute_names: Sequence[str]) -> np.ndarray:
    """Return the attributes of validation rows, and refuse those that nothing can be learned from.

    Args:
        attributes (int array of shape `(M,)`, *optional*): attribute ids.
        attribute_names (`Sequence[str]`): names of the A attribute values.

    Raises:
        ValueError: for fewer than two attribute values, and for one with fewer than `MIN_ROWS_OF_VALUE` rows (named).
    """
    if attributes is None or len(attribute_names) < 2:
        raise ValueError(
            "the rule 'validation_attributes' needs validation rows of at least two attribute values; found "
            f"{', '.join(map(repr, attribute_names)) or 'none'}. Without attributes choose 'validation_shift'"
        )
    for name, count in zip(attribute_names, np.bincount(attributes, minlength=len(attribute_names)), strict=True):
        if count < MIN_ROWS_OF_VALUE:
            raise ValueError(
                f"attribute value {name!r} has {count} validation rows, and {MIN_ROWS_OF_VALUE} are needed to learn "
                "what it looks like. Label more rows, or choose the rule 'validation_shift', which needs no attributes"
            )
    return attributes


def _minority_values(counts: np.ndarray) -> np.ndarray:
    """Return which attribute values of a class are a minority of it: none if they have too few rows together.

    Values with few rows, some of which may be mistaken for another value, do not count where it is decided how large
    an even share of the others is.
    """
    few = counts < MIN_HARD_ROWS
    large = np.where(few, 0, counts)
    minority = (large > 0) & (large * (large > 0).sum() < BELOW_EVEN * large.sum())
    minority |= few & (counts > 0) & (counts * (counts > 0).sum() < BELOW_EVEN * counts.sum())
    return minority if counts[minority].sum() >= MIN_HARD_ROWS else np.zeros_like(minority)
