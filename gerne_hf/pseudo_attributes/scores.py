"""`PseudoAttributes`: the scores of the training rows under biased models, from which groups follow by any rule.

Fits by [`folds`](gerne_hf.pseudo_attributes.folds), keeps scores in a folder, and brings them to the Hub by
[`hub`](gerne_hf.pseudo_attributes.hub). What follows from scores is pure and lies in
[`rules`](gerne_hf.pseudo_attributes.rules) and [`pseudo_groups`](gerne_hf.method.pseudo_groups).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
from accelerate import PartialState
from huggingface_hub import CommitInfo
from transformers.utils import logging

from ..config import GerneConfig
from ..groups.fingerprints import check_fingerprint
from ..groups.index import GroupIndex
from ..groups.sources import add_column
from ..method.pseudo_groups import HARD, PSEUDO_NAMES, check_threshold, pseudo_attributes, pseudo_index
from .biased_model import prepare_fit
from .exports import export_findings, scored_table
from .fit_record import RECORD_FILE, UNKNOWN
from .folds import FoldedScores, run_folds
from .hub import download_scores, push_scores
from .rules import InferredGroups, ScoredEvaluation, ScoredRows, Threshold, infer_groups
from .saved_scores import COLUMNS, DamagedScoresError, read_scores, write_scores

logger = logging.get_logger(__name__)

RECOVERY_THRESHOLDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Thresholds for which reports say how much of the minority is found."""

MINORITY_SHARE = 0.5
"""A group is a minority if it is smaller than this times an even share of its class."""


@dataclass(eq=False)
class PseudoAttributes:
    """Scores of the training rows under a biased model; pseudo-attributes for any threshold follow at no cost.

    Make it with [`PseudoAttributes.fit`], or read it with [`PseudoAttributes.load`] or [`PseudoAttributes.from_hub`].

    Args:
        scores (`np.ndarray` of shape `(N,)`, float32): softmax probability of the row's true class.
        predictions (`np.ndarray` of shape `(N,)`): class that the biased model predicts.
        labels (`np.ndarray` of shape `(N,)`): true class ids.
        label_names (`tuple[str, ...]`): the K classes.
        fingerprint (`str`): of the training set, see [`fingerprint`].
        directory (`str`, *optional*): folder of the scores and of the biased model (`model/`).
        record (`dict`): the settings of the fit.
        rows ([`ScoredRows`], *optional*): probabilities of all classes, and features; None for scores from the Hub.
        evaluation ([`ScoredEvaluation`], *optional*): the same of the validation rows.

    Raises:
        ValueError: for scores that are not finite: the biased model has diverged.
    """

    scores: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    fingerprint: str
    directory: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    rows: ScoredRows | None = None
    evaluation: ScoredEvaluation | None = None

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.scores))
        if len(bad):
            raise ValueError(
                f"{len(bad)} scores are not finite, the first in row {bad[0]}: the biased model has diverged. Lower "
                "biased_learning_rate"
            )
        self._dataset: Any = None
        self._last: tuple[float, GroupIndex] | None = None

    # ---- fitting --------------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls, *, args: GerneConfig, train_dataset: Any, model: Any = None, model_init: Any = None, **arguments: Any
    ) -> "PseudoAttributes":
        """Train the biased models and score the training rows, and the validation rows if there are any.

        In several folds (`biased_folds`, 2 by default) each row is scored by a model that was trained on the other
        folds, with the settings of the main run and the plan `erm`. In one fold, the default of the rule "threshold",
        the model is the paper's: trained on all rows with twice the weight decay and a tenth of the learning rate, and
        selected by class-balanced accuracy of the evaluation set (without one: the last weights). A fit that was
        interrupted goes on from its last complete fold and checkpoint; one that is complete is read and not repeated,
        if rows, transform, weights before training, collator, loss and settings are the same for certain.

        Args:
            args ([`GerneConfig`]): settings of the main run; see its `biased_*` fields and `pseudo_attributes_dir`.
            train_dataset: the rows to score.
            model ([`~transformers.PreTrainedModel`], *optional*): f~ before training; may be smaller than the main
                one.
            model_init (`Callable`, *optional*): makes it.
            arguments: more arguments of [`GerneTrainer`]: `eval_dataset`, `data_collator`, `processing_class`,
                `compute_loss_func`, `optimizer_cls_and_kwargs` (its `lr` and `weight_decay` are replaced); and
                `class_balanced=False` for a plain ERM.

        Returns:
            [`PseudoAttributes`]
        """
        fit = prepare_fit(args=args, train_dataset=train_dataset, model=model, model_init=model_init, **arguments)
        if os.path.isfile(os.path.join(fit.directory, RECORD_FILE)):
            try:
                found_again = cls.load(fit.directory, train_dataset)
            except DamagedScoresError as error:
                if fit.config.should_save:
                    logger.warning(f"{error}. They are made anew, from the folds that are whole.")
            else:
                PartialState().print(
                    f"Scores of biased models were found in {fit.directory}. They were made with the same rows, "
                    "weights, functions and settings, so no biased model is trained.",
                    flush=True,
                )
                return found_again
        if UNKNOWN in fit.record:
            PartialState().print(
                f"Biased models are trained anew, and will not be found again: nothing shows whether they would be "
                f"the same, as no fingerprint can be made of {'; '.join(fit.record[UNKNOWN])}. To keep the scores, "
                f"load them with PseudoAttributes.load({fit.directory!r}), and train on the column that label() adds.",
                flush=True,
            )
        found = run_folds(fit, args.folds_of_biased_model)
        pseudo = cls._of(found, fit.record, fit.directory)
        if fit.config.should_save:
            pseudo.save(fit.directory)
        PartialState().wait_for_everyone()
        pseudo._dataset = train_dataset
        return pseudo

    @classmethod
    def _of(cls, found: FoldedScores, depends_on: dict[str, Any], directory: str) -> "PseudoAttributes":
        record = dict(depends_on)
        mark = record.pop("fingerprint")
        for name in ("in_sample_accuracy", "out_of_fold_accuracy", "class_balanced_accuracy"):
            record[name] = getattr(found, name)
        rows = found.rows
        arrays = rows.scores.astype(np.float32), rows.probabilities.argmax(axis=1), rows.labels
        return cls(*arrays, found.label_names, mark, directory, record, rows, found.evaluation)

    # ---- pseudo-attributes ----------------------------------------------------------------------------------------

    def attributes(self, threshold: float) -> np.ndarray:
        """`(N,)`, uint8: 0 (hard) for the `floor(t n)` least confident rows of each class, 1 (easy) for the others.

        Raises:
            ValueError: if a part of a class is empty; names the class and the smallest threshold that works.
        """
        check_threshold(np.bincount(self.labels, minlength=len(self.label_names)), threshold, self.label_names)
        return pseudo_attributes(self.scores, self.labels, threshold, len(self.label_names))

    def index(self, threshold: float) -> GroupIndex:
        """The pseudo-groups at a threshold as a [`GroupIndex`]."""
        if self._last is None or self._last[0] != threshold:
            check_threshold(np.bincount(self.labels, minlength=len(self.label_names)), threshold, self.label_names)
            self._last = threshold, pseudo_index(self.scores, self.labels, self.label_names, threshold)
        return self._last[1]

    def infer(
        self,
        rule: str = "validation_shift",
        *,
        threshold: Threshold | None = None,
        attributes: np.ndarray | None = None,
        attribute_names: Sequence[str] = (),
    ) -> InferredGroups:
        """Infer groups of training and validation rows by a rule; no model runs again.

        Args:
            rule, threshold, attributes, attribute_names: as for [`infer_groups`].

        Returns:
            [`InferredGroups`]

        Raises:
            ValueError: as [`infer_groups`], and for a rule that needs more than the scores where there is no more.
        """
        rows = self.rows
        if rows is None:
            if rule.startswith("validation_"):
                raise ValueError(
                    f"the rule {rule!r} needs scores of validation rows, and these are scores of training rows alone, "
                    "as they come from the Hub. Fit here, or choose 'confident_mistakes', 'mistakes' or 'threshold'"
                )
            rows = self._rows_of_scores()
        return infer_groups(
            rows,
            self.label_names,
            rule,
            threshold=threshold,
            evaluation=self.evaluation,
            attributes=attributes,
            attribute_names=attribute_names,
        )

    def _rows_of_scores(self) -> ScoredRows:
        """Return probabilities of all classes with the same scores and predictions; the rules need no more of them."""
        size = len(self.label_names)
        rest = (1.0 - self.scores) / max(size - 1, 1)
        probabilities = np.repeat(rest[:, None], size, axis=1).astype(np.float32)
        every = np.arange(len(self.labels))
        wrong = self.predictions != self.labels
        probabilities[wrong] = 0.0
        probabilities[every, self.predictions] = 1.0 - self.scores
        probabilities[every, self.labels] = self.scores
        return ScoredRows(probabilities, self.labels, np.zeros(len(self.labels), dtype=np.int64))

    def errors(self) -> GroupIndex:
        """The rows by class and by whether the biased model is wrong on them (attribute "wrong" or "right")."""
        right = (self.predictions == self.labels).astype(np.uint8)
        return GroupIndex.from_codes(self.labels.astype(np.uint32), self.label_names, [(right, ("wrong", "right"))])

    def label(self, threshold: float, dataset: Any = None, column: str = "pseudo_attribute") -> Any:
        """The data set with the pseudo-attributes as a column, to be trained on as `attribute_column`.

        Args:
            threshold (`float`): t, in (0, 1).
            dataset (*optional*): the training set; the one of the fit if not given.
            column (`str`, defaults to `"pseudo_attribute"`): name of the new column.

        Raises:
            ValueError: for another data set than the one scored, or a threshold that leaves a part of a class empty.
        """
        dataset = self._dataset if dataset is None else dataset
        if dataset is None:
            raise ValueError("these scores were read from files; pass the data set that they belong to as dataset=")
        self.check_dataset(dataset)
        return add_column(dataset, column, self.attributes(threshold), PSEUDO_NAMES)

    def check_dataset(self, dataset: Any) -> None:
        """Raise a `ValueError` unless `dataset` has the rows that were scored, in their order."""
        if len(dataset) != len(self.scores):
            raise ValueError(f"there are scores of {len(self.scores):,} rows, and the data set has {len(dataset):,}")
        check_fingerprint(self.fingerprint, dataset, self.record.get("label_column"), self.record.get("columns"))

    def recovery(
        self, true_attributes: np.ndarray | Sequence, thresholds: Sequence[float], rows: np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        """How well the hard rows recover the minority, for rows whose true attributes are known (Figure 3).

        A group is a minority if its share within its class is below half of an even share among the attribute values
        that the class has: of two values, below a quarter.

        Args:
            true_attributes (array of shape `(N,)`, or `(len(rows),)`): the true attributes.
            thresholds (`Sequence[float]`): values of t.
            rows (`np.ndarray`, *optional*): row numbers of `true_attributes`; all rows if not given.

        Returns:
            `list[dict]`: for each t `threshold`, `hard_rows` (all of them), `precision` (share of minority rows among
            the known hard ones; None where there are none) and `recall` (share of the minority that is hard).
        """
        rows = np.arange(len(self.scores)) if rows is None else np.asarray(rows)
        minority = self._minority(true_attributes, rows)
        return [
            {"threshold": threshold, **_found(self.attributes(threshold) == HARD, minority, rows)}
            for threshold in thresholds
        ]

    def found_among(self, true_attributes: np.ndarray | Sequence, hard: np.ndarray) -> dict[str, Any]:
        """How well some rows recover the minority, for example the hard ones of [`InferredGroups`].

        Args:
            true_attributes (array of shape `(N,)`): the true attributes.
            hard (bool array of shape `(N,)`): which rows are taken for a minority.

        Returns:
            `dict`: `hard_rows`, `precision` and `recall`, as [`PseudoAttributes.recovery`] says.
        """
        rows = np.arange(len(self.scores))
        return _found(hard, self._minority(true_attributes, rows), rows)

    def _minority(self, true_attributes: np.ndarray | Sequence, rows: np.ndarray) -> np.ndarray:
        known = GroupIndex.from_arrays(self.labels[rows], true_attributes)
        present = known.counts > 0  # in integers: a class may have no known rows
        totals, values = (part.sum(axis=1, keepdims=True) for part in (known.counts, present))
        small = present & (known.counts * values < MINORITY_SHARE * totals)
        return small.ravel()[known.codes]

    # ---- what was found -------------------------------------------------------------------------------------------

    def table(self, inferred: InferredGroups | None = None, dataset: Any = None) -> datasets.Dataset:
        """The training rows with `row`, `label`, `prediction`, `probability`, `hard`, `fold` and their own columns.

        No image is decoded and no transform runs. An own column with one of those names has `data_` before it. Of data
        sets other than a `datasets.Dataset`, columns that they give as a whole are taken, if they hold single values.

        Args:
            inferred ([`InferredGroups`], *optional*): says which rows are hard; inferred if not given, by the rule
                "validation_shift", or without scores of a validation set by "confident_mistakes".
            dataset (*optional*): the training set; the one of the fit if not given. Without either there are no own
                columns.

        Raises:
            ValueError: for another data set than the one scored.
        """
        return scored_table(self, *self._found(inferred, dataset))

    def export(self, folder: str, inferred: InferredGroups | None = None, dataset: Any = None) -> None:
        """Write `pseudo_attributes.csv`, a line a row, and `inferred_groups.json`, what was found, to a folder.

        The CSV has no inputs. On several processes the main one writes.

        Args:
            folder (`str`): the folder, made if there is none.
            inferred, dataset (*optional*): as for [`PseudoAttributes.table`].

        Raises:
            ValueError: for another data set than the one scored.
        """
        inferred, dataset = self._found(inferred, dataset)
        export_findings(self, inferred, folder, dataset)

    def _found(self, inferred: InferredGroups | None, dataset: Any) -> tuple[InferredGroups, Any]:
        if dataset is not None:
            self.check_dataset(dataset)
        if inferred is None:
            inferred = self.infer("confident_mistakes" if self.evaluation is None else "validation_shift")
        return inferred, self._dataset if dataset is None else dataset

    # ---- files ----------------------------------------------------------------------------------------------------

    def save(self, directory: str) -> None:
        """Write `scores.parquet` (score, prediction, label), `rows.npz` (all probabilities and features) and
        `pseudo_attributes.json`; the record last, so that a folder with one is complete."""
        columns = {"score": self.scores.astype(np.float32), "prediction": self.predictions, "label": self.labels}
        arrays: dict[str, Any] | None = None
        if self.rows is not None:
            arrays = {"probabilities": self.rows.probabilities, "folds": self.rows.folds}
            arrays["features"] = self.rows.features
            if self.evaluation is not None:
                arrays["evaluation_probabilities"] = self.evaluation.probabilities
                arrays["evaluation_labels"] = self.evaluation.labels
                arrays["evaluation_features"] = self.evaluation.features
        record = {**self.record, "fingerprint": self.fingerprint, "label_names": list(self.label_names)}
        write_scores(directory, columns, arrays, record)
        self.directory = directory

    @classmethod
    def load(cls, directory: str, dataset: Any = None) -> "PseudoAttributes":
        """Read saved scores.

        Args:
            directory (`str`): a folder that a fit, or [`PseudoAttributes.save`], wrote.
            dataset (*optional*): the training set, checked against the fingerprint.

        Raises:
            FileNotFoundError: if the folder holds no complete fit.
            ValueError: if a file is damaged, naming it, or the scores belong to another data set.
        """
        columns, found, record = read_scores(directory)
        scores, predictions, labels = (columns[name] for name in COLUMNS)
        names, mark = tuple(record.pop("label_names")), record.pop("fingerprint")
        pseudo = cls(scores, predictions, labels, names, mark, directory, record)
        if found is not None:
            pseudo.rows = ScoredRows(found["probabilities"], labels, found["folds"], found.get("features"))
            if "evaluation_labels" in found:
                pseudo.evaluation = ScoredEvaluation(
                    found["evaluation_probabilities"], found["evaluation_labels"], found.get("evaluation_features")
                )
        if dataset is not None:
            pseudo.check_dataset(dataset)
            pseudo._dataset = dataset
        return pseudo

    # ---- the Hub --------------------------------------------------------------------------------------------------

    def push_to_hub(
        self,
        repo_id: str,
        thresholds: float | Sequence[float] = (),
        *,
        token: str | None = None,
        private: bool | None = None,
        commit_message: str = "Pseudo-attributes",
        dataset: str | None = None,
        license: str | None = None,
    ) -> CommitInfo:
        """Push scores, pseudo-attributes and a card as a data set; on several processes, call it on the main one.

        Everything goes in one commit. The rows are those of the training set, in its order; its inputs are not pushed.

        Args:
            repo_id (`str`): `OWNER/NAME` of the data set, made if there is none.
            thresholds (`float` or `Sequence[float]`, *optional*): values of t that get a column each,
                `pseudo_attribute_T`; any other follows from the scores.
            token (`str`, *optional*): with write access; that of the log-in if not given.
            private (`bool`, *optional*): whether a data set that is made is private.
            commit_message (`str`, defaults to `"Pseudo-attributes"`): what the commit is called.
            dataset (`str`, *optional*): Hub id of the data set that the scores belong to, for the card.
            license (`str`, *optional*): the licence of that data set, as the Hub spells licences.

        Returns:
            `huggingface_hub.CommitInfo`

        Raises:
            ValueError: for a threshold that leaves a part of a class empty, or a data set that holds something else;
                nothing is pushed.
            HfHubHTTPError: without a token or the rights, or for a failed upload; notes say what to do.
        """
        chosen = [float(thresholds)] if isinstance(thresholds, (int, float)) else list(thresholds)
        return push_scores(self, repo_id, chosen, token, private, commit_message, dataset, license)

    @classmethod
    def from_hub(
        cls, repo_id: str, dataset: Any = None, *, revision: str | None = None, token: str | None = None
    ) -> "PseudoAttributes":
        """Read scores that [`PseudoAttributes.push_to_hub`] pushed; `label` works with any threshold.

        Args:
            repo_id (`str`): `OWNER/NAME` of the data set.
            dataset (*optional*): the training set, checked against the fingerprint.
            revision (`str`, *optional*): branch, tag or commit.
            token (`str`, *optional*): for private data sets; that of the log-in if not given.

        Returns:
            [`PseudoAttributes`]

        Raises:
            RepositoryNotFoundError: if there is no such data set; a note names what has that name instead.
            ValueError: if it holds no pseudo-attributes, naming what it holds, or if they belong to another data set.
        """
        pseudo = cls.load(download_scores(repo_id, revision, token), dataset)
        pseudo.directory = None  # the cache is no folder of a fit
        return pseudo


def _found(hard: np.ndarray, minority: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    hits = int((hard[rows] & minority).sum())
    found, wanted = int(hard[rows].sum()), int(minority.sum())
    return {
        "hard_rows": int(hard.sum()),
        "precision": hits / found if found else None,
        "recall": hits / wanted if wanted else None,
    }
