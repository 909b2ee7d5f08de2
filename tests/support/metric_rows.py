"""The metric's folder, random rows for it, and a comparison to the last bit."""

from pathlib import Path

import numpy as np

from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH

FOLDER = Path(GROUP_ACCURACY_PATH)


def random_rows(seed: int, rows: int = 200, classes: int = 3, values: int = 4) -> dict[str, np.ndarray]:
    """Rows of the metric's three inputs; about half of the predictions are right."""
    generator = np.random.default_rng(seed)
    references = generator.integers(0, classes, rows)
    guesses = generator.integers(0, classes, rows)
    predictions = np.where(generator.random(rows) < 0.5, references, guesses)
    return {"predictions": predictions, "references": references, "attributes": generator.integers(0, values, rows)}


def assert_identical(left, right):
    """Equal types and values, to the last bit, all the way down."""
    assert type(left) is type(right), (left, right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_identical(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_identical(a, b)
    elif isinstance(left, float):
        assert left.hex() == right.hex()
    else:
        assert left == right
