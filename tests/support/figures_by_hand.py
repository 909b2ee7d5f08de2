"""The figures of evaluate() and predict(), worked out from boolean masks."""

import numpy as np
import pytest
import torch
from helpers import SKEWED

HELD_OUT = [[9, 14], [11, 7]]


def by_hand(predicted, labels, places, train_counts=SKEWED):
    """The figures from nothing but boolean masks."""
    hits = predicted == labels
    accuracy = {(y, a): hits[(labels == y) & (places == a)].mean() for y in (0, 1) for a in (0, 1)}
    classes = [hits[labels == y].mean() for y in (0, 1)]
    counts = np.array(train_counts)
    return {
        "accuracy": hits.mean(),
        "worst_group_accuracy": min(accuracy.values()),
        "group_balanced_accuracy": np.mean(list(accuracy.values())),
        "adjusted_accuracy": sum(accuracy[g] * counts[g] for g in accuracy) / counts.sum(),
        "worst_class_accuracy": min(classes),
        "class_balanced_accuracy": np.mean(classes),
        **{f"group_accuracy/class{y}|{a}": value for (y, a), value in accuracy.items()},
        **{f"group_count/class{y}|{a}": ((labels == y) & (places == a)).sum() for (y, a) in accuracy},
    }


def expected_for(model, data, train_counts=SKEWED):
    with torch.no_grad():
        predicted = model(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy()
    return by_hand(predicted, np.array(data["label"][:]), np.array(data["place"][:]), train_counts)


def assert_figures(metrics, expected, prefix="eval"):
    for name, value in expected.items():
        assert metrics[f"{prefix}_{name}"] == pytest.approx(value, abs=1e-6), name
