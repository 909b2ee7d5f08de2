"""The table of the training rows, the CSV and the JSON of what was found, and the rows kept to be looked at."""

import csv
import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from helpers import Rows
from PIL import Image as Pictures
from planted_rows import NAMES, Planted
from pseudo_scores import scored
from report_pages import Page, assert_self_contained, report, write

from gerne_hf import GroupIndex, PseudoAttributes
from gerne_hf.groups.fingerprints import fingerprint
from gerne_hf.pseudo_attributes import ClassSplit, InferredGroups, save_findings
from gerne_hf.reports.examples import save_worst_examples
from gerne_hf.reports.page import write_report


@pytest.fixture
def planted():
    return Planted()


def data(planted, **columns):
    """The rows' texts and places; the minority is at sea."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(NAMES)), "place": Value("string")})
    rows = {
        "text": [f"row {i}" for i in range(300)],
        "label": planted.labels.tolist(),
        "place": np.where(planted.kinds == "sea bird", "sea", "land").tolist(),
    }
    made = Dataset.from_dict(rows, features=features)
    for name, values in columns.items():
        made = made.add_column(name, values)
    return made


def pictures(planted):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (300, 8, 8, 3), dtype=np.uint8)
    images = [Image().encode_example(Pictures.fromarray(colour)) for colour in colours]
    return data(planted).remove_columns("text").add_column("picture", images, feature=Image()), colours


# ---- the table ------------------------------------------------------------------------------------------------------


def test_a_row_of_the_table(planted):
    dataset, inferred = data(planted, row=list(range(300, 600)), hard=["yes"] * 300), planted.inferred()
    pseudo = planted.pseudo(dataset)
    table = pseudo.table(inferred, dataset.with_transform(lambda rows: pytest.fail("a transform ran")))
    assert table.column_names == [
        *("row", "label", "prediction", "probability", "hard", "fold"),
        *("text", "place", "data_row", "data_hard"),
    ]
    assert table.features["label"].names == table.features["prediction"].names == list(NAMES)
    row = int(planted.minority[3])
    assert table[row] == {
        "row": row,
        "label": 0,
        "prediction": 1,
        "probability": pytest.approx(planted.rows.scores[row]),
        "hard": True,
        "fold": row % 2,
        "text": f"row {row}",
        "place": "sea",
        "data_row": 300 + row,
        "data_hard": "yes",
    }
    assert np.flatnonzero(table["hard"][:]).tolist() == sorted([*planted.minority, *planted.noise])


def test_images_stay_as_they_are(planted, monkeypatch):
    dataset, colours = pictures(planted)
    pseudo = planted.pseudo(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "decode_example", lambda *args, **kwargs: pytest.fail("an image was decoded"))
        table = pseudo.table(planted.inferred(), dataset)
    raw = [part.with_format("arrow")[:]["picture"].to_pylist() for part in (table, dataset)]
    assert raw[0] == raw[1] and raw[0][0]["bytes"]
    assert table.features["picture"] == Image() and (np.asarray(table[7]["picture"]) == colours[7]).all()


def test_rows_that_were_selected_keep_their_order(planted):
    order = np.random.default_rng(0).permutation(300)
    moved = data(planted).select(order).select(np.argsort(order))
    table = planted.pseudo(moved).table(planted.inferred(), moved)
    assert table["text"][:] == [f"row {i}" for i in range(300)]


def test_the_columns_of_another_data_set(planted):
    dataset = Rows(data(planted))
    pseudo = planted.pseudo(data(planted))
    pseudo.record.pop("columns")
    pseudo.fingerprint = fingerprint(dataset)
    table = pseudo.table(planted.inferred(), dataset)
    assert table.column_names[6:] == ["text", "place"] and table[4]["text"] == "row 4"


def test_what_is_not_given_is_that_of_the_fit(planted):
    dataset = data(planted)
    pseudo = planted.pseudo(dataset)
    assert pseudo.table().column_names[-1] == "fold"  # no data set is known
    assert np.flatnonzero(pseudo.table()["hard"][:]).tolist() == sorted([*planted.minority, *planted.noise])
    with pytest.raises(ValueError, match="these scores belong to another data set"):
        pseudo.table(dataset=dataset.select(range(299, -1, -1)))


def test_scores_without_features(planted):
    """As they come from the Hub."""
    dataset = data(planted)
    pseudo = scored(dataset)
    table = pseudo.table(dataset=dataset)
    assert set(table["fold"][:]) == {0} and (np.array(table["probability"][:]) == pseudo.scores).all()


# ---- the files ------------------------------------------------------------------------------------------------------


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_round_trip_of_the_export(planted, tmp_path):
    dataset, inferred = data(planted), planted.inferred()
    pseudo = planted.pseudo(dataset)
    pseudo.save(str(tmp_path / "scores"))
    PseudoAttributes.load(str(tmp_path / "scores"), dataset).export(str(tmp_path / "out"), inferred)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"pseudo_attributes.csv", "inferred_groups.json"}
    lines = read_csv(tmp_path / "out" / "pseudo_attributes.csv")
    assert list(lines[0]) == ["row", "label", "prediction", "probability", "hard", "looks_mislabelled"]
    assert [int(line["row"]) for line in lines] == list(range(300))
    assert [line["label"] for line in lines] == [NAMES[label] for label in planted.labels]
    assert [line["prediction"] for line in lines] == [NAMES[k] for k in pseudo.predictions]
    assert (
        np.array([float(line["probability"]) for line in lines]).astype(np.float32).tolist() == pseudo.scores.tolist()
    )
    assert [line["hard"] == "true" for line in lines] == inferred.hard.tolist()
    marked = [i for i, line in enumerate(lines) if line["looks_mislabelled"] == "true"]
    assert marked == planted.noise.tolist()

    found = json.loads((tmp_path / "out" / "inferred_groups.json").read_text())
    assert found["rule"] == "confident_mistakes" and found["fingerprint"] == pseudo.fingerprint
    assert (found["folds"], found["in_sample_accuracy"], found["class_balanced_accuracy"]) == (2, 0.99, None)
    bird, fish = found["classes"]
    assert bird["reason"] == inferred.classes[0].reason and bird["share_of_rows"] == pytest.approx(25 / 150)
    assert (bird["label"], bird["rows"], bird["hard"], bird["target"], bird["share_of_mass"]) == (
        "bird",
        150,
        25,
        0.5,
        0.5,
    )
    assert (fish["hard"], fish["target"], fish["share_of_mass"]) == (0, 0.0, 0.0)
    (place,) = [column for column in found["explaining_columns"] if column["column"] == "place"]
    assert found["explaining_columns"][0] is place and place["beyond_chance"] and 0.5 < place["explained"] < 1
    assert place["values"] == [{"label": "bird", "value": "sea", "share_of_hard": 0.8, "share_of_others": 0.0}]
    noise = found["label_noise"]
    assert sorted(noise.pop("first_rows")) == planted.noise.tolist()
    assert noise == {"rows": 5, "hard": 5, "candidates": 25, "checked": 25, "neighbours": 10, "sampled": False}


def test_rows_that_look_mislabelled_and_are_not_hard_are_named_first(planted, tmp_path):
    """Two of them, those with the lowest probability, are taken for hard, as they are where validation has more."""
    lowest = planted.noise[np.argsort(planted.rows.scores[planted.noise])]
    hard = np.isin(np.arange(300), [*planted.minority, *lowest[:2]])
    codes = np.where(hard, 0, 1).astype(np.uint8)
    index = GroupIndex.from_codes(planted.labels.astype(np.uint32), NAMES, [(codes, ("hard", "easy"))])
    classes = (ClassSplit("bird", 150, 22, 0.5, "more in validation"), ClassSplit("fish", 150, 0, 0.0, "alike"))
    target = np.array([[0.5, 0.5], [0.0, 1.0]])
    planted.pseudo().export(str(tmp_path), InferredGroups("validation_shift", index, target, classes))
    noise = json.loads((tmp_path / "inferred_groups.json").read_text())["label_noise"]
    assert noise["hard"] == 2 and noise["first_rows"] == [*lowest[2:], *lowest[:2]]


def test_without_features_the_export_does_not_say_what_looks_mislabelled(planted, tmp_path):
    dataset = data(planted)
    scored(dataset).export(str(tmp_path), dataset=dataset)
    assert {line["looks_mislabelled"] for line in read_csv(tmp_path / "pseudo_attributes.csv")} == {""}
    assert json.loads((tmp_path / "inferred_groups.json").read_text())["label_noise"] is None


def test_only_the_main_process_writes(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.PartialState.is_main_process", False)
    planted.pseudo().export(str(tmp_path / "out"), planted.inferred())
    save_findings(planted.pseudo(), planted.inferred(), data(planted), tmp_path / "run", 2)
    assert not list(tmp_path.iterdir())


# ---- a run ----------------------------------------------------------------------------------------------------------


def saved(folder):
    path = folder / "_examples" / "inferred" / "examples.json"
    return json.loads(path.read_text())["classes"] if path.is_file() else None


def test_a_run_keeps_the_hardest_and_typical_rows(planted, tmp_path):
    dataset, inferred, pseudo = data(planted), planted.inferred(), planted.pseudo()
    mass = np.array([[0.3, 0.2], [0.0, 0.5]])
    save_findings(pseudo, inferred, dataset, tmp_path, 3, None, ["mind the gap"], mass, no_texts=["place"])
    found = json.loads((tmp_path / "inferred_groups.json").read_text())
    assert found["warnings"] == ["mind the gap"]
    assert [split["share_of_mass"] for split in found["classes"]] == pytest.approx([0.6, 0.0])
    assert (tmp_path / "_examples" / "pseudo_attributes.csv").is_file()
    assert not (tmp_path / "pseudo_attributes.csv").exists()  # what lies in the run's folder is pushed
    bird, fish = saved(tmp_path)
    own = np.flatnonzero(inferred.hard)
    hardest = own[np.argsort(pseudo.scores[own], kind="stable")[:3]]
    assert (bird["label"], bird["rows"], bird["hard"]) == ("bird", 150, 25)
    assert bird["hardest"] == [
        {"row": row, "prediction": "fish", "probability": float(pseudo.scores[row]), "texts": [f"row {row}"]}
        for row in hardest
    ]
    assert {planted.kinds[example["row"]] for example in bird["typical"]} == {"bird"} and len(bird["typical"]) == 3
    assert len(fish["hardest"]) == len(fish["typical"]) == 3 and fish["hard"] == 0


def test_pictures_of_training_rows_stay_when_test_rows_are_saved_and_go_when_none_are_wanted(planted, tmp_path):
    dataset, colours = pictures(planted)
    save_findings(planted.pseudo(), planted.inferred(), dataset, tmp_path, 2)
    folder = tmp_path / "_examples" / "inferred"
    rows = {e["row"]: e["image"] for group in saved(tmp_path) for e in group["hardest"] + group["typical"]}
    assert len(rows) == 8 and {path.name for path in folder.glob("*.png")} == set(rows.values())
    for row, name in rows.items():
        with Pictures.open(folder / name) as picture:
            assert (np.asarray(picture) == colours[row]).all()
    groups = [{"label": "bird", "attribute": "sea", "count": 1, "accuracy": 0.0}]
    save_worst_examples(str(tmp_path), {"groups": groups, "step": 1}, {0: []}, dataset, "test")
    assert {path.name for path in folder.glob("*.png")} == set(rows.values())
    save_findings(planted.pseudo(), planted.inferred(), dataset, tmp_path, 0)
    assert saved(tmp_path) is None and not list(folder.iterdir())
    assert (tmp_path / "inferred_groups.json").is_file()


def test_of_many_classes_those_with_the_most_hard_rows_are_kept(tmp_path):
    labels = np.repeat(np.arange(30), 12)
    pseudo = scored(Dataset.from_dict({"label": labels.tolist()}))
    pseudo.scores[:] = 1.0
    pseudo.scores[labels >= 6] = np.tile([0.0] * 6 + [1.0] * 6, 24)
    shares = {name: 0.5 if int(name) >= 6 else None for name in pseudo.label_names}
    inferred = pseudo.infer("threshold", threshold=shares)
    save_findings(pseudo, inferred, Dataset.from_dict({"label": labels.tolist()}), tmp_path, 1)
    assert [group["label"] for group in saved(tmp_path)] == [str(k) for k in range(6, 30)]


def test_the_page_of_a_run_shows_what_was_saved(planted, tmp_path):
    metrics = {**report(), "pseudo_attributes": {"threshold": None, "recovery": []}}
    write(tmp_path / "group_metrics.json", metrics)
    save_findings(planted.pseudo(), planted.inferred(), data(planted), tmp_path, 2, warnings=["few rows"])
    page = Page(open(write_report(tmp_path), encoding="utf-8").read())
    assert_self_contained(page)
    assert page.row("bird", "150")[2:5] == ["25", "16.7", "50.0"]
    assert page.row("place")[2] == "bird: sea (80.0 % of hard rows, 0.0 % of others)"


def test_groups_by_predicted_attributes_count_the_values_below_their_even_share(planted, tmp_path):
    """The rule "validation_attributes" calls no rows hard; its minority is shown in their place."""
    sea = (planted.kinds == "sea bird").astype(np.uint32)
    index = GroupIndex.from_codes(planted.labels.astype(np.uint32), NAMES, [(sea, ("land", "sea"))])
    classes = (ClassSplit("bird", 150, 20, 0.5, "told"), ClassSplit("fish", 150, 0, 0.0, "left whole"))
    target = np.array([[0.5, 0.5], [1.0, 0.0]])
    inferred = InferredGroups("validation_attributes", index, target, classes)
    planted.pseudo().export(str(tmp_path), inferred)
    found = json.loads((tmp_path / "inferred_groups.json").read_text())
    assert [split["share_of_mass"] for split in found["classes"]] == [0.5, 0.0]
    assert np.flatnonzero(planted.pseudo().table(inferred)["hard"][:]).tolist() == planted.minority.tolist()
