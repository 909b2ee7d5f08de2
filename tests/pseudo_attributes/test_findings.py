"""What was found among the rows: columns that explain the hard ones, label noise, and rows to look at."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from planted_rows import Planted
from sklearn.metrics import mutual_info_score

from gerne_hf.pseudo_attributes import CodedColumn, ScoredRows, explaining_columns, label_noise
from gerne_hf.pseudo_attributes.findings import rows_to_show
from gerne_hf.pseudo_attributes.own_columns import coded_column, own_columns, whole_column

# ---- columns that explain the hard rows -----------------------------------------------------------------------------


def made(seed=0, size=600):
    """Labels, hard rows, and columns by name: one explains the hard rows, one half of them, one is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    hard = rng.random(size) < 0.15
    place = np.where(hard, labels, 1 - labels)  # the hard rows of class 0 are on land, those of class 1 at sea
    half = np.where(rng.random(size) < 0.5, place, rng.integers(0, 2, size))
    columns = {"chance": rng.integers(0, 15, size), "half": half, "class": labels, "place": place}
    return labels, hard, {name: CodedColumn(name, codes, tuple("abcdefghijklmno")) for name, codes in columns.items()}


def test_the_planted_column_comes_first_and_chance_explains_nothing():
    labels, hard, columns = made()
    found = explaining_columns(list(columns.values()), labels, hard, 2)
    assert [column.name for column in found][:2] == ["place", "half"]
    by_name = {column.name: column for column in found}
    assert by_name["place"].explained == pytest.approx(1.0) and 0.1 < by_name["half"].explained < 0.6
    assert by_name["class"].explained == by_name["class"].bits == 0.0  # within a class it tells nothing
    assert by_name["chance"].explained < 0.03
    assert [column.name for column in found if column.beyond_chance] == ["place", "half"]


def test_bits_are_the_mutual_information_within_the_classes():
    labels, hard, columns = made()
    found = {column.name: column for column in explaining_columns(list(columns.values()), labels, hard, 2)}
    for name, column in columns.items():
        own = [labels == label for label in (0, 1)]
        nats = sum(rows.sum() * mutual_info_score(hard[rows], column.codes[rows]) for rows in own) / len(labels)
        assert found[name].bits == pytest.approx(nats / np.log(2), abs=1e-9), name


def test_the_value_is_that_of_each_class():
    labels, hard, columns = made()
    (place,) = explaining_columns([columns["place"]], labels, hard, 2)
    assert [(v.label, v.value, v.of_hard, v.of_others) for v in place.values] == [(0, "a", 1, 0), (1, "b", 1, 0)]
    (half,) = explaining_columns([columns["half"]], labels, hard, 2)
    own = labels == 1
    assert half.values[1].of_hard == pytest.approx((columns["half"].codes[own & hard] == 1).mean())
    assert half.values[1].of_others == pytest.approx((columns["half"].codes[own & ~hard] == 1).mean())


def test_many_values_do_not_explain_few_hard_rows_by_chance():
    """With 50 values and 6 hard rows the information itself is large."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hard = np.zeros(400, dtype=bool)
        hard[rng.choice(400, 6, replace=False)] = True
        column = CodedColumn("many", rng.integers(0, 50, 400), tuple(map(str, range(50))))
        found += explaining_columns([column], np.zeros(400, dtype=np.int64), hard, 1)
    assert min(column.bits for column in found) > 0.02
    assert np.mean([column.explained for column in found]) < 0.08 and not any(c.beyond_chance for c in found)


def test_classes_that_are_whole_say_nothing():
    labels, hard, columns = made()
    only = hard & (labels == 1)
    (place,) = explaining_columns([columns["place"]], labels, only, 2)
    assert [value.label for value in place.values] == [1] and place.explained == pytest.approx(1.0)
    assert explaining_columns([columns["place"]], labels, np.zeros_like(hard), 2) == []
    assert explaining_columns([columns["place"]], labels, np.ones_like(hard), 2) == []


# ---- the data's own columns -----------------------------------------------------------------------------------------


def coded(values, kind=None, **options):
    return coded_column("c", pa.chunked_array([pa.array(values, kind)]), **options)


def texts_of(column):
    return [column.values[code] for code in column.codes]


def test_columns_with_few_values_are_categories():
    assert texts_of(coded([True, False, True])) == ["True", "False", "True"]
    assert coded([3, 1, 2, 1]).values == ("1", "2", "3")
    assert texts_of(coded(["sea", None, "land"] * 5))[:3] == ["sea", "missing", "land"]
    assert texts_of(coded([1.5, float("nan"), 0.5])) == ["1.5", "missing", "0.5"]
    assert texts_of(coded([1, 0, -1], class_names=["cat", "dog"])) == ["dog", "cat", "missing"]


def test_many_numbers_become_ranges_with_as_many_rows_each():
    column = coded(np.random.default_rng(0).permutation(1000))
    assert column.values[0] == "0 to 99" and column.values[-1] == "900 to 999"
    assert np.bincount(column.codes).tolist() == [100] * 10
    mostly = coded([0] * 900 + list(range(1, 101)))
    assert mostly.values == ("0", "1 to 100")
    assert coded([float("nan")] * 3 + list(np.arange(30.0))).values[-1] == "missing"
    days = [datetime.date(2026, 1, 1) + datetime.timedelta(days=day) for day in range(100)]
    assert coded(days).values[0] == "2026-01-01 to 2026-01-10"


def test_texts_count_by_their_length():
    column = coded([f"{'x' * (i % 50)} {i:03d}" for i in range(500)])
    assert column.name == "c (length in characters)" and column.values[0] == "4 to 8"
    assert coded([f"place {i % 40}" for i in range(500)]).name == "c" and len(coded(["a", "b"]).values) == 2


def with_images(count=300):
    features = Features(
        {
            "picture": Image(),
            "label": ClassLabel(names=["bird", "fish"]),
            "tokens": List(Value("int64")),
            "place": Value("string"),
            "constant": Value("int64"),
        }
    )
    rows = {"picture": [{"bytes": b"no picture", "path": None}] * count, "label": [0, 1] * (count // 2)}
    rows |= {"tokens": [[1, 2]] * count, "place": ["sea", "land", "sea"] * (count // 3), "constant": [1] * count}
    return Dataset.from_dict(rows, features=features)


class Whole:
    """A map-style data set whose rows are dictionaries; reading the images as a whole fails the test."""

    column_names = ("image", "label", "place", "broken")

    def __len__(self):
        return 6

    def __getitem__(self, key):
        if key == "image":
            pytest.fail("all images were read")
        if isinstance(key, str):
            return {"label": np.arange(6) % 2, "place": ["sea", "land"] * 3}[key]
        return {"image": np.zeros((2, 2)), "label": key % 2, "place": "sea"}


def test_which_columns_of_a_data_set_are_read():
    data = with_images().with_transform(lambda rows: pytest.fail("a transform ran"))
    assert [column.name for column in own_columns(data, {"label"})] == ["place"]
    assert [column.name for column in own_columns(data)] == ["label", "place"]
    assert own_columns(data)[0].values == ("bird", "fish")
    assert [column.name for column in own_columns(Whole())] == ["label", "place"]
    assert own_columns([1, 2, 3]) == [] and whole_column(Whole(), "broken") is None


# ---- label noise ----------------------------------------------------------------------------------------------------


def test_planted_wrong_labels_are_found_and_the_minority_is_not():
    planted = Planted()
    noise = label_noise(planted.rows)
    assert sorted(noise.rows.tolist()) == planted.noise.tolist()
    assert (noise.candidates, noise.checked, noise.sampled) == (25, 25, False)
    assert (np.diff(planted.rows.scores[noise.rows]) >= 0).all()


def test_neighbours_are_other_rows_of_the_same_fold():
    """Features of two models have nothing in common: the second one has its fish where the first one has its birds."""
    planted = Planted()
    rows, features = planted.rows, planted.rows.features.astype(np.float32)
    features[rows.folds == 1, 0] = 8 - features[rows.folds == 1, 0]
    noise = label_noise(ScoredRows(rows.probabilities, rows.labels, rows.folds, features))
    assert sorted(noise.rows.tolist()) == planted.noise.tolist()
    together = label_noise(ScoredRows(rows.probabilities, rows.labels, np.zeros_like(rows.folds), features))
    assert sorted(together.rows.tolist()) != planted.noise.tolist()


def test_a_row_is_not_its_own_neighbour():
    """Row 3 is nearest to two fish; were it, a bird, one of its two neighbours, there would be no majority."""
    probabilities = np.array([[0, 1], [0, 1], [1, 0], [0.1, 0.9]], dtype=np.float32)
    features = np.array([[0.0], [0.1], [0.5], [0.15]], dtype=np.float32)
    rows = ScoredRows(probabilities, np.array([1, 1, 0, 0]), np.zeros(4, dtype=np.int64), features)
    assert label_noise(rows, neighbours=3).rows.tolist() == [3]
    assert label_noise(rows, neighbours=2).rows.tolist() == [3]


def test_large_folds_are_sampled_and_it_says_so():
    planted = Planted()
    noise = label_noise(planted.rows, neighbours=5, most_rows=60)
    assert noise.sampled and noise.checked == 25
    assert set(planted.noise) <= set(noise.rows.tolist())
    few = label_noise(planted.rows, most_rows=10)
    assert few.candidates == 25 and few.checked == 20  # ten of each fold, those with the lowest probability


def test_without_features_nobody_knows():
    rows = Planted().rows
    assert label_noise(ScoredRows(rows.probabilities, rows.labels, rows.folds)) is None


# ---- rows to look at ------------------------------------------------------------------------------------------------


def test_hardest_and_typical_rows():
    scores = np.array([0.5, 0.02, 0.9, 0.01, 0.6, 0.7, 0.95, 0.03])
    labels, hard = np.array([0, 0, 0, 0, 0, 0, 0, 1]), np.array([0, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
    hardest, typical = rows_to_show(scores, labels, hard, 0, 3)
    assert hardest.tolist() == [3, 1] and typical.tolist() == [5, 4, 0]  # the median of those not hard is 0.7
    whole = np.zeros(8, dtype=bool)
    hardest, typical = rows_to_show(scores, labels, whole, 0, 2)
    assert hardest.tolist() == [3, 1] and not {3, 1} & set(typical.tolist()) and len(typical) == 2
    hardest, typical = rows_to_show(scores, labels, whole, 1, 2)
    assert hardest.tolist() == [7] and typical.tolist() == []
