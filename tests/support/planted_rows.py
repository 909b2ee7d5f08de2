"""Scored rows in which everything is planted: a minority in one class, wrong labels, and a column that explains it."""

import numpy as np

from gerne_hf import PseudoAttributes
from gerne_hf.groups.fingerprints import fingerprint
from gerne_hf.pseudo_attributes import ScoredRows, infer_groups

NAMES = ("bird", "fish")


class Planted:
    """Two classes of 150 rows in two folds. 20 birds are at sea, a place of its own in the features; 5 fish carry the
    label of a bird and lie among the fish. The model is sure that both are fish.

    Args:
        seed (`int`): decides the order of the rows, the features and the scores.
    """

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        kinds = rng.permutation(np.repeat(["bird", "sea bird", "mislabelled", "fish"], [125, 20, 5, 150]))
        self.labels = (kinds == "fish").astype(np.int64)
        self.minority, self.noise = np.flatnonzero(kinds == "sea bird"), np.flatnonzero(kinds == "mislabelled")
        centres = {"bird": (0, 0, 0), "sea bird": (8, 8, 0), "mislabelled": (8, 0, 0), "fish": (8, 0, 0)}
        features = np.array([centres[kind] for kind in kinds]) + rng.normal(size=(300, 3))
        fish = np.where(kinds == "bird", 0.05, 0.93) + rng.uniform(0, 0.05, 300)
        probabilities = np.stack([1 - fish, fish], axis=1).astype(np.float32)
        folds = np.arange(300) % 2
        self.rows = ScoredRows(probabilities, self.labels, folds, features.astype(np.float16))
        self.kinds = kinds

    def pseudo(self, dataset=None):
        """The scores as a fit would give them."""
        rows, mark = self.rows, "0" * 64
        record = {"label_column": None, "folds": 2, "in_sample_accuracy": 0.99, "out_of_fold_accuracy": 0.92}
        if dataset is not None:
            record["columns"] = sorted(dataset.column_names)
            mark = fingerprint(dataset, None, record["columns"])
        predictions = rows.probabilities.argmax(axis=1)
        pseudo = PseudoAttributes(rows.scores, predictions, self.labels, NAMES, mark, None, record)
        pseudo.rows = rows
        return pseudo

    def inferred(self):
        """The groups by confident mistakes: the minority and the wrong labels are hard."""
        return infer_groups(self.rows, NAMES, "confident_mistakes")
