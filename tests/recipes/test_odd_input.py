"""Recipes on odd input: settings, files and columns that cannot be, each told in one sentence before any training."""

import datasets
import pytest

from gerne_hf.data.splits import load_any, prepare_splits
from gerne_hf.data.texts import load_texts, tokenize
from gerne_hf.models.texts import word_tokenizer
from gerne_hf.recipes.arguments import RecipeArguments, parse_arguments
from gerne_hf.reports.plots import plot_comparison

pytestmark = pytest.mark.usefixtures("own_cache")


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def refuse(tmp_path, capsys):
    """What a recipe says to a command line, and to a settings file."""
    (tmp_path / "configs").mkdir()

    def run(*argv, settings=""):
        (tmp_path / "configs" / "tiny.yaml").write_bytes(
            settings if isinstance(settings, bytes) else settings.encode()
        )
        with pytest.raises(SystemExit):
            parse_arguments(RecipeArguments, str(tmp_path / "tiny.py"), ["--output_dir", str(tmp_path), *argv])
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize("seeds", ["abc", "", "1.5", "-1", "0,0", "4294967296", "0;1", ","])
def test_seeds_that_are_none(refuse, seeds):
    said = refuse("--seeds=" + seeds)
    assert "error: seeds must be whole numbers from 0 to 4294967295, each given once" in said and repr(seeds) in said


@pytest.mark.parametrize("seeds", ["0, 1,", [0, 1], (0, "1")])
def test_seeds_as_text_and_as_a_list_of_a_settings_file(seeds):
    assert RecipeArguments(seeds=seeds).seed_list(42) == [0, 1]


def test_methods_as_a_list_of_a_settings_file():
    assert RecipeArguments(compare=["erm", "resampling"]).methods("independent") == [
        "erm",
        "resampling",
        "independent",
    ]


@pytest.mark.parametrize("argv, settings", [(("--tune", "-1"), ""), ((), "tune: 1.5")])
def test_a_number_of_trials_that_is_none(refuse, argv, settings):
    assert "tune, the number of trials, must be a whole number, 0 for no search; found" in refuse(
        *argv, settings=settings
    )


def test_methods_and_their_settings_are_looked_at_before_the_data(refuse):
    assert "unknown method 'foo'; the methods are erm, " in refuse("--compare", "foo")
    assert "which is no field of the config" in refuse("--method_settings", '{"erm": {"foo": 1}}')


@pytest.mark.parametrize(
    "content, message",
    [
        ("- c\n- beta\n", "must hold settings, one a line as NAME: VALUE; found a list"),
        ("just a text", "found a str"),
        ("a: [1\nb: }", "is no YAML: while parsing a flow sequence"),
        (b"\xff\xfe\x00", "is no YAML: "),
        ("7: 1\n", "sets 7, which is no argument"),
    ],
)
def test_settings_files_that_are_none(refuse, content, message):
    assert message in refuse(settings=content) and "tiny.yaml" in refuse(settings=content)


# ---- files --------------------------------------------------------------------------------------------------------

HEADER = "text,mood,topic\n"


def test_a_file_that_is_not_there():
    with pytest.raises(Exception) as error:
        load_any("nowhere/comments.csv")
    assert "There is no file nowhere/comments.csv." in error.value.__notes__


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "cannot be read: No columns to parse from file"),
        ((HEADER + "ol\xe9,a,b\n").encode("latin-1"), "cannot be read: 'utf-8' codec can't decode byte 0xe9"),
        (HEADER.encode(), "has no rows"),
    ],
)
def test_files_that_hold_no_table(tmp_path, content, message):
    file = tmp_path / "data" / "comments.csv"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"comments.csv {message}"):
        load_any(str(file))
    with pytest.raises(ValueError, match=f"/data {message}"):
        load_any(str(file.parent))


# ---- columns ------------------------------------------------------------------------------------------------------


def splits(rows=60, **columns):
    table = {"text": [f"t{i}" for i in range(rows)], "mood": ["calm", "rude"] * (rows // 2)}
    table["topic"] = ["a", "a", "b", "b"] * (rows // 4)
    train = datasets.Dataset.from_dict({**table, **columns})
    return datasets.DatasetDict(train=train)


def test_columns_are_chosen_by_arguments():
    with pytest.raises(
        ValueError, match="lacks the columns txt: it has text, mood, topic.* Name others with --text_col"
    ):
        prepare_splits(splits(), ["txt"], "mood", ["topic"])


def test_a_single_label():
    with pytest.raises(
        ValueError, match="label column 'mood' has the single value 'calm', and a classifier needs two"
    ):
        prepare_splits(splits(mood=["calm"] * 60), ["text"], "mood", ["topic"])


def test_a_label_that_is_its_own_attribute():
    with pytest.raises(ValueError, match="label column 'mood' cannot be an attribute too"):
        prepare_splits(splits(), ["text"], "mood", ["topic", "mood"])


def test_an_attribute_of_a_value_a_row():
    with pytest.raises(ValueError, match="60 training rows in 60 groups are too few to cut validation and test"):
        prepare_splits(splits(), ["text"], "mood", ["text"])


def test_a_row_without_a_text_is_counted_before_splits_are_cut():
    texts = [f"t{i}" if i != 40 else None for i in range(60)]
    with pytest.raises(ValueError, match="split 'train' has no value of 'text' in 1 row, the first of them row 40"):
        load_texts(splits(text=texts), "text", None, "mood", ["topic"])


@pytest.mark.parametrize("length", [-5, 0, 2])
def test_a_length_without_room_for_a_text(length):
    data = splits()
    with pytest.raises(ValueError, match=f"max_length, the tokens of a row, must be at least 3; found {length}"):
        tokenize(data, word_tokenizer(data["train"]["text"][:]), ["text"], length)


# ---- names --------------------------------------------------------------------------------------------------------


def test_a_picture_of_groups_with_odd_and_long_names(tmp_path, recwarn):
    names = ["$\\frac{$", "a_{", "long " * 50 + "one", "long " * 50 + "two"]
    groups = [{"label": n, "attribute": n, "count": 5, "accuracy": 0.5, "ci_low": 0.2, "ci_high": 0.8} for n in names]
    plot_comparison({"ERM": {"groups": groups}, "GERNE": {"groups": groups}}, str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert not [str(w.message) for w in recwarn if "layout" in str(w.message)]
