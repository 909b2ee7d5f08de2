"""Group metrics of files of predictions: equal to those of arrays, for every kind of file, in parts, and bad files."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf.data import evaluate_prediction_file, prediction_files
from gerne_hf.evaluation import group_metrics, metrics_from_counts


def frame(rows=300, seed=0):
    """Predictions in names that are nobody's ids, with a bar and letters of another script."""
    rng = np.random.default_rng(seed)
    labels, places = rng.integers(0, 3, rows), rng.integers(0, 4, rows)
    right = rng.random(rows) < 0.9 - 0.2 * (labels == places)
    names, values = np.array(["cat", "dog", "鸟"]), np.array(["sea", "land", "a|b", "air"])
    predicted = names[np.where(right, labels, (labels + 1) % 3)]
    return pd.DataFrame({"prediction": predicted, "label": names[labels], "place": values[places], "row": range(rows)})


def write(data, path):
    """Write a data frame as the ending says."""
    if path.suffix == ".parquet":
        data.to_parquet(path)
    elif path.suffix == ".jsonl":
        data.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        data.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return str(path)


def expected(data, **more):
    return group_metrics(data["prediction"], data["label"], data["place"], **more)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file(tmp_path, ending):
    data = frame()
    path = write(data, tmp_path / f"found{ending}")
    assert evaluate_prediction_file(path, attribute_columns=["place"]) == expected(data)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_that_is_read_in_parts(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(prediction_files, "_PART", 2000)
    monkeypatch.setattr(prediction_files, "_ROWS", 37)
    data = frame(2000)
    path = write(data, tmp_path / f"found{ending}")
    assert evaluate_prediction_file(path, attribute_columns=["place"]) == expected(data)


@pytest.mark.parametrize("kind", [int, float, bool])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_ids_are_names_too(tmp_path, ending, kind):
    """pandas writes whole numbers with a point where a column once had missing values."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame(rng.integers(0, 2, (50, 3)), columns=["prediction", "label", "place"])
    data["prediction"] = data["prediction"].astype(kind)
    if kind is not int and ending != ".parquet":
        data["label"] = data["label"].astype(kind)
    if kind is bool and ending == ".parquet":
        data["label"] = data["label"].astype(bool)
    found = evaluate_prediction_file(write(data, tmp_path / f"f{ending}"), attribute_columns=["place"])
    plain = group_metrics(data["prediction"].astype(int), data["label"].astype(int), data["place"])
    for key in ("accuracy", "worst_group_accuracy", "group_balanced_accuracy", "class_balanced_accuracy"):
        assert found[key] == plain[key]


def test_several_attributes(tmp_path):
    data = frame()
    data["day"] = np.where(np.arange(len(data)) % 3, "day", "night")
    found = evaluate_prediction_file(write(data, tmp_path / "f.csv"), attribute_columns=["place", "day"])
    together = [place + " & " + day for place, day in zip(data["place"], data["day"], strict=True)]
    assert found == group_metrics(data["prediction"], data["label"], together)


def probabilities(rows=200):
    rng = np.random.default_rng(3)
    scores = rng.dirichlet([1.0, 1.0, 1.0], rows)
    data = frame(rows).drop(columns="prediction")
    for i, name in enumerate(["cat", "dog", "鸟"]):
        data[name] = scores[:, i]
    return data, scores


def test_probabilities_and_metrics_beyond_accuracy(tmp_path):
    data, scores = probabilities()
    names, metrics = ["cat", "dog", "鸟"], ["f1", "auroc", "ece", "tpr", "equalized_odds_gap"]
    path = write(data, tmp_path / "f.parquet")
    settings = dict(attribute_columns=["place"], probability_columns=names, extra_metrics=metrics)
    found = evaluate_prediction_file(path, **settings)
    wanted = group_metrics(scores, data["label"], data["place"], label_names=names, extra_metrics=metrics)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, abs=1e-6), key
    renamed = data.rename(columns={name: f"p{i}" for i, name in enumerate(names)})
    settings["probability_columns"], settings["label_names"] = ["p0", "p1", "p2"], names
    again = evaluate_prediction_file(write(renamed, tmp_path / "g.csv"), **settings)
    assert again["groups"] == found["groups"] and again["worst_auroc"] == pytest.approx(found["worst_auroc"], abs=1e-6)


def test_metrics_without_probabilities_are_those_of_the_rows(tmp_path):
    data = frame()
    found = evaluate_prediction_file(
        write(data, tmp_path / "f.csv"), attribute_columns=["place"], extra_metrics=["f1", "tpr"]
    )
    assert found == expected(data, extra_metrics=["f1", "tpr"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60))
def test_counts_give_the_figures_of_rows(rows):
    predicted, labels, places = np.array(rows).T
    counts, correct = np.zeros((3, 4), dtype=int), np.zeros((3, 4), dtype=int)
    np.add.at(counts, (labels, places), 1)
    np.add.at(correct, (labels, places), predicted == labels)
    names = dict(label_names=["a", "b", "c"], attribute_names=["p", "q", "r", "s"])
    assert metrics_from_counts(correct, counts, **names) == group_metrics(predicted, labels, places, **names)


def test_counts_that_are_none():
    for correct, counts, said in (
        ([[1]], [[1, 2]], "one shape"),
        ([[2, 0]], [[1, 2]], "from 0 to those of counts"),
        ([[0, 0]], [[0, 0]], "no rows"),
    ):
        with pytest.raises(ValueError, match=said):
            metrics_from_counts(correct, counts)


# ---- bad files ------------------------------------------------------------------------------------------------------


def refused(path, said, **settings):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        evaluate_prediction_file(str(path), **{"attribute_columns": ["place"], **settings})


def test_columns_that_are_not_there(tmp_path):
    for ending in (".csv", ".jsonl", ".parquet"):
        path = write(frame(), tmp_path / f"f{ending}")
        refused(path, r"has no column 'where': its columns are .*'place'", attribute_columns=["where"])
    (tmp_path / "s.csv").write_text("prediction;label;place\na;b;c\n")
    refused(tmp_path / "s.csv", "--delimiter")
    found = evaluate_prediction_file(
        str(tmp_path / "s.csv"), attribute_columns=["place"], delimiter=";", label_names="ab"
    )
    assert found["accuracy"] == 0


def test_predictions_that_are_no_labels(tmp_path):
    data = frame()
    data.loc[[3, 5], "prediction"] = "Cat"
    path = write(data, tmp_path / "f.csv")
    refused(path, r"predicts 'Cat' in 2 rows, and no row has such a label; the labels are 'cat', 'dog', '鸟'")
    found = evaluate_prediction_file(path, attribute_columns=["place"], label_names=["cat", "dog", "鸟", "Cat"])
    assert found["accuracy"] == (data["prediction"] == data["label"]).mean()
    refused(path, "has the labels '鸟', which are not among label_names", label_names=["cat", "dog"])


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_rows_without_a_value(tmp_path, ending):
    """All that is wrong is said at once; or the rows are left out, and counted."""
    data = frame().drop(columns="row")
    data.loc[[7, 9], "label"] = None
    data.loc[9, "place"] = None
    path = write(data, tmp_path / f"f{ending}")
    refused(path, r"2 of 300 rows lack a value: 'label' in 2 rows, .* row 7; 'place' in 1 row, .* row 9")
    found = evaluate_prediction_file(path, attribute_columns=["place"], skip_unusable_rows=True)
    assert found.pop("rows_left_out") == 2
    assert found == expected(data.drop(index=[7, 9]))


def test_probabilities_that_are_none(tmp_path):
    data, _ = probabilities()
    names = ["cat", "dog", "鸟"]
    data.loc[4, "dog"] += 0.5
    path = write(data, tmp_path / "f.csv")
    refused(path, r"sum to 1; those of row 4, .* with the sum 1.5", probability_columns=names)
    refused(path, "3 columns of probabilities and 2 classes", probability_columns=names, label_names=["cat", "dog"])
    refused(path, "need probabilities", extra_metrics=["auroc"])
    data.loc[4, "dog"] -= 0.5
    logits = data.assign(cat=data["cat"] * -5)
    refused(write(logits, tmp_path / "l.csv"), "softmax", probability_columns=names)
    words = data.assign(cat="much")
    refused(write(words, tmp_path / "w.parquet"), "must hold probabilities", probability_columns=names)


def test_files_that_are_no_files(tmp_path):
    refused(tmp_path / "none.csv", "there is no file")
    (tmp_path / "empty.csv").write_text("")
    refused(tmp_path / "empty.csv", "is empty")
    (tmp_path / "head.csv").write_text("prediction,label,place\n")
    refused(tmp_path / "head.csv", "has no rows")
    (tmp_path / "f.xlsx").write_text("x")
    refused(tmp_path / "f.xlsx", r"\.csv, \.tsv")
    (tmp_path / "f.parquet").write_text("no parquet")
    refused(tmp_path / "f.parquet", "cannot be read")
    (tmp_path / "f.jsonl").write_text('{"prediction": "a", ')
    refused(tmp_path / "f.jsonl", "cannot be read")
    fractions = pd.DataFrame({"prediction": [0.5, 1.0], "label": [0, 1], "place": [0, 1]})
    refused(write(fractions, tmp_path / "g.parquet"), "holds fractions")
    lists = pd.DataFrame({"prediction": [[1], [0]], "label": [0, 1], "place": [0, 1]})
    refused(write(lists, tmp_path / "h.parquet"), "must hold names or whole numbers")


def test_columns_of_identifiers_are_refused(tmp_path):
    count = 3000
    data = pd.DataFrame({"prediction": range(count), "label": range(count), "place": range(count)})
    refused(write(data, tmp_path / "f.parquet"), "Choose columns of categories")
    few = pd.DataFrame({"prediction": range(90_000), "label": np.arange(90_000) % 30, "place": np.arange(90_000) % 30})
    refused(write(few, tmp_path / "g.parquet"), "the column of predictions holds 90,000 names")


def test_the_result_is_json(tmp_path):
    found = evaluate_prediction_file(write(frame(), tmp_path / "f.csv"), attribute_columns=["place"])
    assert json.loads(json.dumps(found)) == found
