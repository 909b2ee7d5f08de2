"""Reading group columns: types of values and of data sets, no row decoded, and the messages about bad columns."""

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from gerne_hf import GroupIndex
from gerne_hf.groups import columns
from gerne_hf.groups.columns import encode_column, smallest_unsigned

LABELS = [1, 0, 1, 1, 0]
PLACES = ["sea", "land", "sea", "land", "land"]


def index_of(data, **kwargs) -> GroupIndex:
    return GroupIndex.from_dataset(data, "label", "place", **kwargs)


def assert_expected(index: GroupIndex, rows=(0, 1, 2, 3, 4)) -> None:
    """The index of LABELS and PLACES, taken at `rows`."""
    expected = [LABELS[row] * 2 + (PLACES[row] == "sea") for row in rows]
    assert index.codes.tolist() == expected


# ---- types of values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names", "codes"),
    [
        ([3, -5, 3, 10], ("-5", "3", "10"), [1, 0, 1, 2]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (["b", "a", "B", ""], ("", "B", "a", "b"), [3, 2, 1, 0]),
        (np.array([2, 1, 2], dtype=np.uint8), ("1", "2"), [1, 0, 1]),
        (np.array(["x", "yy"]), ("x", "yy"), [0, 1]),
    ],
)
def test_attribute_values_are_sorted(values, names, codes):
    for data in (datasets.Dataset.from_dict({"place": values}), {"place": values}, pd.DataFrame({"place": values})):
        found, found_names = encode_column(data, "place", "attribute")
        assert found.dtype == np.uint8 and found.tolist() == codes and tuple(found_names) == names


def test_class_ids_stand_for_themselves():
    assert encode_column({"y": [4, 1, 4]}, "y", "label", sequential=True)[1] == ["0", "1", "2", "3", "4"]
    assert encode_column({"y": [4, 1, 4]}, "y", "label", sequential=True)[0].tolist() == [4, 1, 4]
    assert encode_column({"y": ["4", "1"]}, "y", "label", sequential=True)[1] == ["1", "4"]


def test_class_labels_keep_their_order_and_unused_names():
    feature = datasets.ClassLabel(names=["zebra", "ant", "bee"])
    data = datasets.Dataset.from_dict({"place": [2, 0, 2]}, features=datasets.Features({"place": feature}))
    for role, sequential in (("attribute", False), ("label", True)):
        codes, names = encode_column(data, "place", role, sequential=sequential)
        assert names == ["zebra", "ant", "bee"] and codes.tolist() == [2, 0, 2]


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_arrow_strings(kind):
    features = datasets.Features({"label": datasets.Value("int8"), "place": datasets.Value(kind)})
    assert_expected(index_of(datasets.Dataset.from_dict({"label": LABELS, "place": PLACES}, features=features)))


def test_many_values_in_several_chunks(monkeypatch):
    monkeypatch.setattr(columns, "_CHUNK_ROWS", 50)
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(700), 2)).astype(str)
    names = sorted(set(values))
    for data in ({"a": values}, datasets.Dataset.from_dict({"a": values})):
        codes, found = encode_column(data, "a", "attribute")
        assert found == names and codes.dtype == np.uint16
        assert [names[code] for code in codes] == values.tolist()


def test_a_table_of_several_chunks():
    part = datasets.Dataset.from_dict({"label": LABELS[:2], "place": PLACES[:2]})
    rest = datasets.Dataset.from_dict({"label": LABELS[2:], "place": PLACES[2:]})
    assert_expected(index_of(datasets.concatenate_datasets([part, rest])))


@pytest.mark.parametrize(("count", "kind"), [(0, "uint8"), (1, "uint8"), (256, "uint8"), (257, "uint16")])
def test_smallest_unsigned(count, kind):
    assert smallest_unsigned(count) == np.dtype(kind)


# ---- kinds of data sets ---------------------------------------------------------------------------------------------


@pytest.fixture
def images() -> datasets.Dataset:
    """A data set with an image column that cannot be decoded."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.Value("int64"), "place": datasets.Value("string")}
    )
    broken = [{"bytes": b"no image", "path": None}] * len(LABELS)
    data = datasets.Dataset.from_dict({"image": broken, "label": LABELS, "place": PLACES}, features=features)
    with pytest.raises(Exception, match="cannot identify image"):
        data[0]
    return data


def refuse(batch):
    raise AssertionError("the transform ran")


def test_no_image_is_decoded(images):
    assert_expected(index_of(images))


@pytest.mark.parametrize("rows", [(4, 1, 0), (2, 3), (0, 4, 0)])
def test_rows_that_were_selected(images, rows):
    assert_expected(index_of(images.select(list(rows))), rows)


def test_rows_that_were_shuffled(images):
    shuffled = images.shuffle(seed=1)
    order = [LABELS[i] * 2 + (PLACES[i] == "sea") for i in shuffled._indices.column(0).to_pylist()]
    assert index_of(shuffled).codes.tolist() == order
    assert order != [LABELS[i] * 2 + (PLACES[i] == "sea") for i in range(5)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0)])
def test_formats_and_transforms_do_not_matter(images, order):
    data = images.select(order)
    assert_expected(index_of(data.with_transform(refuse)), order)
    assert_expected(index_of(data.with_format("torch")), order)
    assert_expected(index_of(data.with_format("numpy", columns=["label"])), order)
    data.set_transform(refuse, columns=["place"])
    assert_expected(index_of(data), order)
    with pytest.raises(AssertionError, match="the transform ran"):
        data[0]
    data.set_format("torch", columns=["label"])
    assert_expected(index_of(data), order)
    assert data.format["type"] == "torch" and data.format["columns"] == ["label"]


class Columnar(torch.utils.data.Dataset):
    """A map-style data set that gives columns by name and refuses rows."""

    column_names = ["label", "place"]

    def __getitem__(self, key):
        assert key in self.column_names
        return torch.tensor(LABELS) if key == "label" else PLACES

    def __len__(self):
        return len(LABELS)


@pytest.mark.parametrize(
    "data",
    [
        {"label": LABELS, "place": PLACES},
        {"label": np.array(LABELS), "place": np.array(PLACES)},
        {"label": torch.tensor(LABELS), "place": tuple(PLACES)},
        pd.DataFrame({"label": LABELS, "place": PLACES}),
        pd.DataFrame({"label": LABELS, "place": pd.Categorical(PLACES)}, index=[9, 8, 7, 6, 5]),
        Columnar(),
    ],
    ids=["lists", "arrays", "tensor", "frame", "categorical", "columnar"],
)
def test_map_style_data_sets(data):
    assert_expected(index_of(data))


def test_arrays():
    assert_expected(GroupIndex.from_arrays(torch.tensor(LABELS), PLACES))
    assert_expected(GroupIndex.from_arrays(np.array(LABELS, dtype=bool), np.array(PLACES, dtype=object)))


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [datasets.Dataset.from_dict, dict, pd.DataFrame])
def test_missing_columns_are_named_beside_those_that_exist(convert):
    data = convert({"label": LABELS, "place": PLACES})
    columns_there = "its columns are 'label', 'place'"
    with pytest.raises(ValueError, match=f"no attribute column 'palce'; {columns_there}. Set attribute_column"):
        GroupIndex.from_dataset(data, "label", "palce")
    with pytest.raises(ValueError, match="no attribute column 'night'"):
        GroupIndex.from_dataset(data, "label", ["place", "night"])
    with pytest.raises(ValueError, match=f"no label column 'y'; {columns_there}. Set label_column"):
        GroupIndex.from_dataset(data, "y", "place")
    unlabelled = convert({"bird": LABELS, "place": PLACES})
    with pytest.raises(ValueError, match="none of label, labels, label_ids is among its columns 'bird', 'place'"):
        GroupIndex.from_dataset(unlabelled, attribute_column="place")


BAD = [
    ([0.0, 1.0, 1.0, 0.0, 1.0], TypeError, "holds (double|float64) values, and groups need categories"),
    ([0.0, None, 1.0, 0.0, 1.0], TypeError, "holds (double|float64) values, and groups need categories"),
    ([0, 1, None, 1, None], ValueError, "has null values, the first in row 2"),
    (["a", "b", "a", None, "b"], ValueError, "has null values, the first in row 3"),
    ([None] * 5, ValueError, "has null values, the first in row 0"),
    ([[0], [1], [0, 1], [], [1]], TypeError, "holds lists .*Multi-label targets have no groups"),
    ([{"a": 1}] * 5, TypeError, "holds struct.*integers, booleans, strings or a ClassLabel are needed"),
]


@pytest.mark.parametrize(("values", "error", "message"), BAD)
@pytest.mark.parametrize("convert", [datasets.Dataset.from_dict, dict])
def test_values_that_are_no_category(convert, values, error, message):
    with pytest.raises(error, match=f"attribute column 'place' {message}"):
        index_of(convert({"label": LABELS, "place": values}))
    with pytest.raises(error, match=f"label column 'label' {message}"):
        index_of(convert({"label": values, "place": PLACES}))


@pytest.mark.parametrize(
    ("values", "row"),
    [
        (pd.Series(["a", "b", "a", None, "b"]), 3),
        (pd.Series([1, 0, None, 1, 0], dtype="Int64"), 2),
        (pd.Series([True, None, True, False, True], dtype="boolean"), 1),
        (pd.Series(["a", None, "b", "a", "a"], dtype="category"), 1),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_nulls_in_a_frame(values, row):
    with pytest.raises(ValueError, match=f"attribute column 'place' has null values, the first in row {row}"):
        index_of(pd.DataFrame({"label": LABELS, "place": values}))


@pytest.mark.parametrize("kind", [list, lambda values: np.array(values, dtype=object)], ids=["list", "array"])
@pytest.mark.parametrize("missing", [None, float("nan")], ids=["None", "nan"])
def test_nulls_in_arrays(kind, missing):
    values = kind(["a", "b", missing, "a", "a"])
    with pytest.raises(ValueError, match="'attributes' has null values, the first in row 2"):
        GroupIndex.from_arrays(LABELS, values)
    with pytest.raises(ValueError, match="'labels' has null values, the first in row 2"):
        GroupIndex.from_arrays(values, LABELS)


def test_a_null_in_a_later_chunk(monkeypatch):
    monkeypatch.setattr(columns, "_CHUNK_ROWS", 2)
    for data in ({"a": [1, 0, 1, None, 0]}, datasets.Dataset.from_dict({"a": [1, 0, 1, None, 0]})):
        with pytest.raises(ValueError, match="the first in row 3"):
            encode_column(data, "a", "attribute")


def test_float_arrays_are_refused():
    with pytest.raises(TypeError, match="label column 'labels' holds (double|float) values"):
        GroupIndex.from_arrays(np.array([0.0, 1.0]), [0, 1])
    with pytest.raises(TypeError, match="attribute column 'attributes' holds (double|float) values"):
        GroupIndex.from_arrays([0, 1], np.array([0.0, 1.0], dtype=np.float32))


def test_label_matrices_are_refused():
    with pytest.raises((TypeError, ValueError), match="'labels'"):
        GroupIndex.from_arrays(np.eye(3, dtype=int), [0, 1, 2])
    with pytest.raises((TypeError, ValueError), match="column 'label'"):
        index_of({"label": torch.eye(5, dtype=torch.long), "place": PLACES})


def test_negative_class_ids_are_refused():
    message = r"label column 'label' holds the class ids \[-2, -1\], and they must lie in 0\.\.1"
    with pytest.raises(ValueError, match=message):
        index_of({"label": [1, -1, 0, -2, -1], "place": PLACES})


@pytest.mark.parametrize("column", ["label", "place"])
def test_class_labels_of_rows_without_a_class_are_refused(column):
    data = datasets.Dataset.from_dict({"label": LABELS, "place": [0, 1, 0, 1, 1]})
    data = data.cast_column(column, datasets.ClassLabel(names=["a", "b", "c"]))
    values = pa.array([0, -1, 2, 1, 0])
    table = data.data.table.set_column(data.column_names.index(column), column, values)
    data = datasets.Dataset(table, info=data.info)
    with pytest.raises(
        ValueError, match=rf"column '{column}' holds the class ids \[-1\], and they must lie in 0\.\.2"
    ):
        index_of(data)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield {"label": 0, "place": "sea"}


@pytest.mark.parametrize(
    "data", [datasets.IterableDataset.from_generator(lambda: iter([{"label": 0, "place": "sea"}])), Stream()]
)
@pytest.mark.parametrize("label_column", [None, "label"])
def test_data_that_can_only_be_iterated_is_refused(data, label_column):
    with pytest.raises(TypeError, match=f"{type(data).__name__} can only be iterated.*without streaming=True"):
        GroupIndex.from_dataset(data, label_column, "place")


@pytest.mark.parametrize("data", [[0, 1], torch.zeros(3), torch.utils.data.Subset([0, 1], [1])])
def test_data_without_columns_or_fields_is_refused(data):
    with pytest.raises(TypeError, match=f"{type(data).__name__} has no columns.*dictionary.*`column_names`"):
        GroupIndex.from_dataset(data, "label", "place")


@pytest.mark.parametrize("data", [[{"label": 0}], torch.utils.data.TensorDataset(torch.zeros(3))])
def test_rows_without_a_field_are_refused_before_all_are_read(data, capsys):
    with pytest.raises(ValueError, match="no label or attribute column '(label|place)'; the fields of its rows are '"):
        GroupIndex.from_dataset(data, "label", "place")
    assert "Reading" not in capsys.readouterr().err
