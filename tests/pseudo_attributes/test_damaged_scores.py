"""Saved scores that are damaged: one clear sentence, or made anew from what is whole."""

import json
from pathlib import Path

import numpy as np
import pytest
from biased_fits import UNKNOWN, fit, no_forward
from helpers import table

from gerne_hf import PseudoAttributes
from gerne_hf.pseudo_attributes.fit_record import RECORD_FILE
from gerne_hf.pseudo_attributes.folds import FOLD_FILE
from gerne_hf.pseudo_attributes.hub import SCORES_FILE
from gerne_hf.pseudo_attributes.saved_scores import ROWS_FILE

pytestmark = pytest.mark.usefixtures("without_pictures")

SETTINGS = dict(
    UNKNOWN, threshold=None, biased_folds=2, save_strategy="steps", save_steps=1, eval_dataset=table(seed=5)
)


@pytest.fixture
def whole(tmp_path):
    return fit(tmp_path, **SETTINGS)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x10
    path.write_bytes(content)


def in_record(path, **entries):
    """Change entries of a record; those that are None are taken away."""
    record = {**json.loads(path.read_text()), **entries}
    gone = {name for name, value in entries.items() if value is None}
    path.write_text(json.dumps({name: value for name, value in record.items() if name not in gone}))


def as_before(folder, damage=None):
    """Without checksums, as an earlier version wrote it."""
    in_record(folder / RECORD_FILE, checksum=None, checksums=None)
    if damage:
        damage(folder)


DAMAGES = {
    "a bit of the scores": (lambda folder: flip(folder / SCORES_FILE, 0.3), SCORES_FILE),
    "a bit of the rows": (lambda folder: flip(folder / ROWS_FILE, 0.3), ROWS_FILE),
    "no rows": (lambda folder: (folder / ROWS_FILE).unlink(), ROWS_FILE),
    "a figure of the record": (lambda folder: in_record(folder / RECORD_FILE, folds=3), RECORD_FILE),
    "half a record": (lambda folder: (folder / RECORD_FILE).write_text('{"folds": 2'), RECORD_FILE),
    "a record that is none": (lambda folder: (folder / RECORD_FILE).write_text("[]"), RECORD_FILE),
    "earlier, zeros": (lambda f: as_before(f, lambda g: (g / SCORES_FILE).write_bytes(bytes(3000))), SCORES_FILE),
    "earlier, cut off": (
        lambda f: as_before(f, lambda g: (g / ROWS_FILE).write_bytes((g / ROWS_FILE).read_bytes()[:900])),
        ROWS_FILE,
    ),
    "earlier, no names": (lambda f: as_before(f, lambda g: in_record(g / RECORD_FILE, label_names=None)), RECORD_FILE),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_and_mended(tmp_path, whole, caplog, monkeypatch, name):
    damage, file = DAMAGES[name]
    damage(Path(whole.directory))
    with pytest.raises(
        ValueError, match=rf"cannot be used: {file} is damaged \(.+\)\. Delete the folder and fit again"
    ):
        PseudoAttributes.load(whole.directory)
    no_forward(monkeypatch)  # the folds are whole
    caplog.set_level("WARNING")
    again = fit(tmp_path, **SETTINGS)
    np.testing.assert_array_equal(again.scores, whole.scores)
    np.testing.assert_array_equal(again.rows.probabilities, whole.rows.probabilities)
    assert sum(f"{file} is damaged" in text for text in caplog.messages) == 1
    assert PseudoAttributes.load(whole.directory).record == whole.record


def test_those_of_an_earlier_version_are_read(tmp_path, whole, monkeypatch):
    as_before(Path(whole.directory))
    no_forward(monkeypatch)
    again = fit(tmp_path, **SETTINGS)
    np.testing.assert_array_equal(again.scores, whole.scores)
    assert again.record == whole.record


def test_a_fold_that_is_damaged_is_scored_again(tmp_path, whole, caplog):
    folder = Path(whole.directory)
    (folder / RECORD_FILE).unlink()
    flip(folder / "fold-1" / FOLD_FILE, 0.3)
    caplog.set_level("WARNING")
    again = fit(tmp_path, **SETTINGS)
    np.testing.assert_array_equal(again.scores, whole.scores)
    assert any("fold-1" in text and "trained and scored again" in text for text in caplog.messages)
