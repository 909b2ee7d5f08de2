"""`group_metrics` of names and of pandas columns: the same figures as of ids, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from gerne_hf import group_metrics

LABELS, PLACES = ["landbird", "waterbird"], ["land", "water"]
IDS = {"predictions": [0, 1, 1, 0, 1], "references": [0, 0, 1, 1, 1], "attributes": [0, 1, 1, 0, 1]}
NAMES = {name: [(PLACES if name == "attributes" else LABELS)[i] for i in ids] for name, ids in IDS.items()}
EXPECTED = group_metrics(**IDS, label_names=LABELS, attribute_names=PLACES)


@pytest.mark.parametrize(
    "column",
    [
        list,
        np.array,
        lambda names: np.array(names, dtype=object),
        pd.Series,
        lambda names: pd.Series(names, index=range(7, 12)),
        lambda names: pd.Series(names, dtype="category"),
        lambda names: pd.Series(names, dtype="string"),
        lambda names: Dataset.from_dict({"name": names})["name"],
    ],
    ids=["list", "array", "objects", "series", "other index", "category", "string", "datasets"],
)
def test_names_of_every_kind(column):
    assert group_metrics(**{name: column(values) for name, values in NAMES.items()}) == EXPECTED


def test_columns_of_a_frame_of_names_and_ids():
    frame = pd.DataFrame(NAMES)
    assert group_metrics(frame["predictions"], frame["references"], frame["attributes"]) == EXPECTED
    ids = pd.DataFrame(IDS).astype("Int64")
    names = {"label_names": LABELS, "attribute_names": PLACES}
    assert group_metrics(ids["predictions"], ids["references"], ids["attributes"], **names) == EXPECTED
    assert group_metrics(ids["predictions"], frame["references"], frame["attributes"], label_names=LABELS) == EXPECTED


def test_frames_of_scores_and_of_flags_bring_their_names():
    scores = pd.DataFrame({"waterbird": [0.1, 0.9, 0.8, 0.2, 0.7], "landbird": [0.9, 0.1, 0.2, 0.8, 0.3]})
    result = group_metrics(scores, NAMES["references"], NAMES["attributes"])
    assert result["groups"] == EXPECTED["groups"][2:] + EXPECTED["groups"][:2]
    flags = pd.DataFrame({"female": [True, True, False, True, False], "muslim": [False, True, False, True, True]})
    found = group_metrics(NAMES["predictions"], NAMES["references"], flags)
    assert [group["attribute"] for group in found["groups"]] == ["female", "muslim"] * 2
    ids = group_metrics(IDS["predictions"], IDS["references"], flags.to_numpy(), None, LABELS, list(flags.columns))
    assert found == ids


def test_label_names_give_the_order_and_the_classes_without_rows():
    names = ["waterbird", "landbird", "seabird"]
    result = group_metrics(["seabird", "landbird"], ["landbird", "landbird"], ["land", "water"], None, names)
    assert [group["label"] for group in result["groups"][::2]] == names and result["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"predictions": ["landbird", "seabird", "seabird", "crow", "waterbird"]},
            "predictions hold 'seabird' in 2 rows, 'crow' in 1 row, not .*'landbird', 'waterbird'.*label_names",
        ),
        ({"references": ["Landbird"] * 5, "label_names": LABELS}, "references hold 'Landbird' in 5 rows.*label_names"),
        ({"attributes": ["sea"] * 5, "attribute_names": PLACES}, "attributes hold 'sea' in 5 rows.*attribute_names"),
        ({"predictions": ["landbird"]}, "one entry a row; found .*'predictions': 1, 'references': 5"),
        (
            {"predictions": ["landbird", None, "landbird", None, "waterbird"]},
            "no value in 2 rows, .* row 1",
        ),
        ({"references": pd.Series(["landbird", None, "a", "b", "c"])}, "references have no value in 1 row"),
        ({"attributes": ["land", float("nan"), "land", "land", "water"]}, "attributes have no value in 1 row"),
        ({"attributes": pd.Series([1, None, 0, 0, 1])}, "attributes have no value in 1 row"),
        ({"references": pd.Series([1, None, 0, 0, 1], dtype="Int64")}, "references have no value in 1 row"),
        ({"predictions": IDS["predictions"]}, "predictions are ids and references are names.*label_names"),
        ({"references": IDS["references"]}, "predictions are names and references are ids.*label_names"),
        ({"predictions": np.eye(2)[[0, 1, 1, 0, 1]]}, "predictions are scores and references are names.*label_names"),
        ({"predictions": ["landbird", 1, 1, 0, 1]}, "predictions mix names and other values"),
        ({"train_group_counts": [[1, 2], [3, 4]]}, "train_group_counts.*label_names and attribute_names"),
        ({"predictions": pd.DataFrame({"a": [0.5] * 5, "b": [0.5] * 5}), "label_names": LABELS}, "columns .*'a', 'b'"),
    ],
)
def test_what_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        group_metrics(**{**NAMES, **changed})
