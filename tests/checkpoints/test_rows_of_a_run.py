"""A checkpoint belongs to the rows it was trained on: other rows are refused, what nobody can tell is said once."""

import shutil

import datasets
import numpy as np
import pytest
from helpers import mlp, table, trainer
from resumed_runs import SETTINGS, again

from gerne_hf.checkpoints.seals import read_seal, seal
from gerne_hf.groups.contents import Content
from gerne_hf.training.known_rows import KnownRows

pytestmark = pytest.mark.usefixtures("without_pictures")


def negated(row):
    return {"inputs": [-value for value in row["inputs"]]}


def within_groups():
    """The same groups in the same order, and the rows of each in another one."""
    data = table()
    label, place = np.array(data["label"][:]), np.array(data["place"][:])
    order = np.arange(len(data))
    for group in range(4):
        mine = np.flatnonzero(2 * label + place == group)
        order[mine] = mine[::-1]
    return data.select(order)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    subject = trainer(folder, mlp(dropout=0.3), **{**SETTINGS, "max_steps": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        subject.train()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


OTHERS = {
    "inputs negated": (lambda: table().map(negated), "rows"),
    "one value": (lambda: table().map(lambda row: negated(row) if row["row"] == 50 else row), "rows"),
    "rows permuted within groups": (within_groups, "rows"),
    "a transform": (lambda: table().with_transform(lambda rows: rows), "transform"),
}


@pytest.mark.parametrize("change", OTHERS)
def test_other_rows_are_refused(folder, change):
    make, name = OTHERS[change]
    with pytest.raises(ValueError, match=rf"another run: {name} was '.*' and is '.*resume_with_changes=\['{name}'\]"):
        again(folder, train=make()).train(resume_from_checkpoint=True)
    subject = again(folder, train=make(), resume_with_changes=[name], max_steps=3)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 3


def test_the_same_rows_stored_elsewhere_go_on(folder, tmp_path):
    table().save_to_disk(tmp_path / "rows")
    subject = again(folder, train=datasets.load_from_disk(tmp_path / "rows"), max_steps=3)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 3


def test_a_checkpoint_of_an_earlier_release_goes_on_with_a_warning(folder, caplog):
    path = str(folder / "checkpoint-2")
    record = read_seal(path)
    for name in ("rows", "transform"):
        del record["run"][name]
    seal(path, {name: record[name] for name in record if name not in ("files", "checksums")})
    again(folder, max_steps=3).train(resume_from_checkpoint=True)
    (said,) = [text for text in caplog.messages if "is not known in full" in text]
    assert "written by an earlier release of gerne_hf, which did not record ['rows', 'transform']" in said


def test_a_transform_that_nobody_can_tell_is_said_and_not_refused(tmp_path, caplog):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return table().with_transform(lambda rows: rows if rng is not None else rows)

    again(tmp_path, train=drawn(0), max_steps=2).train()
    assert not [text for text in caplog.messages if "is not known" in text]
    again(tmp_path, train=drawn(1), max_steps=3).train(resume_from_checkpoint=True)
    (said,) = [text for text in caplog.messages if "is not known in full" in text]
    assert "of a random generator, whose state changes as it is used no fingerprint can be made" in said
    other = drawn(1).select(range(87, -1, -1))
    with pytest.raises(ValueError, match="data was"):
        again(tmp_path, train=other, max_steps=4).train(resume_from_checkpoint=True)


def test_rows_are_hashed_once_a_run_and_not_at_all_where_nothing_is_saved(tmp_path, monkeypatch):
    counted = []

    def count(dataset, columns=None):
        counted.append(dataset)
        return Content("0" * 32)

    monkeypatch.setattr("gerne_hf.training.known_rows.content_of", count)
    again(tmp_path / "a", save_strategy="no", max_steps=2).train()
    assert not counted
    again(tmp_path / "b", max_steps=4).train()
    assert len(counted) == 1


def test_a_set_whose_format_was_changed_in_place_is_hashed_anew():
    data, known = table(), KnownRows()
    before = known.content(data)
    data.set_transform(lambda rows: rows)
    assert known.content(data).rows == before.rows and known.content(data).code != before.code
