"""Rows as users have them: an attribute that is an input, columns too short, odd labels, dropped rows."""

import datasets
import numpy as np
import pytest
from datasets import Dataset, Value
from helpers import MLP, MLPConfig, Rows, table, trainer, watch_batches
from refusals import accepted, refused
from transformers.data import default_data_collator

from gerne_hf import GroupIndex
from gerne_hf.groups.columns import encode_column

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- an attribute that the model takes ----------------------------------------------------------------------------


class SeesPlace(MLP):
    """A model to which the attribute is an input like any other; without it, it does not run."""

    def forward(self, inputs, place, labels=None, row=None):
        self.seen = place
        return super().forward(inputs, labels, row)


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("make", [lambda data: data, Rows], ids=["of datasets", "of another library"])
def test_an_attribute_that_is_an_input_of_the_model_reaches_it(tmp_path, make, removed):
    data = make(table())
    subject = trainer(tmp_path, SeesPlace(MLPConfig()), data, eval_dataset=data, remove_unused_columns=removed)
    batches = watch_batches(subject)
    subject.train()
    places = np.array(data["place"][:])
    for batch in batches:
        assert batch["place"].tolist() == places[batch["row"].numpy()].tolist()
    subject.evaluate()
    assert subject.model.seen.tolist() == places[80:].tolist()  # the last batch of 16


def test_an_attribute_that_is_none_is_still_taken_out(tmp_path):
    subject = trainer(tmp_path, train=Rows(table()), remove_unused_columns=False)
    batches = watch_batches(subject)
    subject.train()
    assert all("place" not in batch for batch in batches)


# ---- columns that do not fit the rows -----------------------------------------------------------------------------


class Short(Rows):
    """Columns of 10 values for 88 rows, as of a data set that was cut off in one place only."""

    def __getitem__(self, key):
        return super().__getitem__(key)[:10] if isinstance(key, str) else super().__getitem__(key)


def test_columns_shorter_than_the_rows(tmp_path):
    parts = "label column 'label' of Short has 10 values for 88 rows", "one value for each row"
    refused(ValueError, *parts, output_dir=tmp_path, train=Short(table()))
    refused(ValueError, *parts, output_dir=tmp_path, eval_dataset=Short(table()))


def test_columns_of_different_length():
    with pytest.raises(ValueError, match="'label' has 3 values, and 'place' has 2"):
        GroupIndex.from_dataset({"label": [0, 1, 1], "place": [0, 1]}, attribute_column="place")


# ---- labels and attributes that are no classes --------------------------------------------------------------------


def with_column(name, values):
    return table().remove_columns(name).add_column(name, values)


def texts_as_labels():
    return with_column("label", ["cat" if label else "dog" for label in table()["label"]])


def test_texts_as_labels_are_refused_at_construction(tmp_path):
    with pytest.raises(ValueError, match=r"'label' holds texts.*dataset.class_encode_column\('label'\)"):
        trainer(tmp_path, train=texts_as_labels())
    accepted(output_dir=tmp_path, train=texts_as_labels().class_encode_column("label"))


def test_texts_as_labels_of_other_data_sets_are_refused_at_the_first_batch(tmp_path):
    parts = "the rows' 'label' are texts", "default_data_collator", "class_encode_column"
    refused(ValueError, *parts, output_dir=tmp_path, train=Rows(texts_as_labels()))


def test_texts_that_a_collator_numbers_are_trained(tmp_path):
    def collate(rows):
        return default_data_collator([{**row, "label": ["cat", "dog"].index(row["label"])} for row in rows])

    accepted(output_dir=tmp_path, train=texts_as_labels(), data_collator=collate)


@pytest.mark.parametrize(
    "change, error, parts",
    [
        (lambda labels: labels.tolist(), TypeError, ("labels as a list", "torch.tensor(labels)")),
        (lambda labels: labels.float(), ValueError, ("type torch.float32", "one integer class id a row")),
    ],
    ids=["list", "float"],
)
def test_labels_that_a_collator_returns(tmp_path, change, error, parts):
    def collate(rows):
        batch = default_data_collator(rows)
        return {**batch, "labels": change(batch["labels"])}

    refused(error, "the collator collate", *parts, output_dir=tmp_path, data_collator=collate)


def test_a_collator_that_returns_a_tuple(tmp_path):
    def collate(rows):
        return tuple(default_data_collator(rows).values())

    refused(
        TypeError, "the collator collate returned a tuple", "dictionary", output_dir=tmp_path, data_collator=collate
    )


@pytest.mark.parametrize("name", ["label", "place"])
def test_the_hint_for_whole_numbers_works(tmp_path, name):
    data = with_column(name, [float(value) for value in table()[name]])
    with pytest.raises(TypeError) as caught:
        trainer(tmp_path, train=data)
    hint = f"dataset.cast_column('{name}', datasets.Value('int64'))"
    assert hint in str(caught.value)
    accepted(output_dir=tmp_path, train=eval(hint, {"dataset": data, "datasets": datasets}))


def test_the_hint_for_other_numbers_works():
    data = Dataset.from_dict({"label": [0, 1, 1], "shade": [0.25, 0.75, 1.0]})
    with pytest.raises(TypeError) as caught:
        encode_column(data, "shade", "attribute")
    hint = "dataset.map(lambda row: {'shade_class': row['shade'] >= 0.5})"
    assert hint in str(caught.value) and "attribute_column='shade_class'" in str(caught.value)
    mapped = eval(hint, {"dataset": data})
    assert mapped.features["shade_class"] == Value("bool")
    assert encode_column(mapped, "shade_class", "attribute")[0].tolist() == [0, 1, 1]


# ---- rows that are dropped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["independent", "erm"])
def test_the_last_rows_are_dropped_where_that_is_wanted(tmp_path, plan):
    settings = dict(train=table([[30, 6], [10, 20]]), plan=plan, per_device_train_batch_size=16)  # 66 rows
    kept = trainer(tmp_path, **settings)
    dropped = trainer(tmp_path, dataloader_drop_last=True, num_train_epochs=2, max_steps=-1, **settings)
    assert (len(kept.get_train_dataloader()), len(dropped.get_train_dataloader())) == (5, 4)
    batches = watch_batches(dropped)
    dropped.train()
    assert dropped.state.global_step == 8 and all(len(batch["labels"]) == 16 for batch in batches)


def test_no_batch_is_left(tmp_path):
    parts = "dataloader_drop_last=True leaves no batch", "88 rows", "1 x 89"
    settings = dict(dataloader_drop_last=True, per_device_train_batch_size=89)
    refused(ValueError, *parts, output_dir=tmp_path, **settings)
