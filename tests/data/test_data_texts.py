"""Any data set of texts: where it lies, pairs, bad input, texts that are too long, the recipe in one command."""

import importlib.util
import json
import sys

import datasets
import pytest
import torch
from places import ROOT
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2ForSequenceClassification
from transformers import pipeline as make_pipeline

from gerne_hf import GroupIndex
from gerne_hf.data.texts import load_texts, tokenize
from gerne_hf.models.texts import small_text_model, word_tokenizer

MOODS, TOPICS = ["calm", "rude"], ["bread & salt", "the weather", "trains, late"]
SETTINGS = {"text_column": "comment", "label_column": "mood", "attribute_columns": ["topic"]}


def table_of(rows):
    """Row i's text tells its number, in 3 words, and its mood and topic."""
    moods, topics = [MOODS[i % 2] for i in range(rows)], [TOPICS[i // 2 % 3] for i in range(rows)]
    comments = [f"number {i} {mood} {topic}" for i, (mood, topic) in enumerate(zip(moods, topics, strict=True))]
    return {"comment": comments, "mood": moods, "topic": topics, "score": [0.5] * rows}


def in_memory(change=None, train=60, validation=12, test=18):
    tables = {"train": table_of(train), "validation": table_of(validation), "test": table_of(test)}
    for split, table in tables.items():
        if change:
            change(split, table)
    return datasets.DatasetDict({key: datasets.Dataset.from_dict(table) for key, table in tables.items()})


pytestmark = pytest.mark.usefixtures("own_cache")


def store(splits, folder, kind):
    """The splits on disk; the path to load."""
    folder.mkdir()
    if kind == "save_to_disk":
        splits.save_to_disk(folder / "saved")
        return str(folder / "saved")
    for key, split in splits.items():
        if kind == "parquet":
            split.to_parquet(folder / f"{key}.parquet")
        elif kind == "csv":
            split.to_csv(folder / f"{key}.csv", index=False)
        else:
            split.to_json(folder / f"{key}.jsonl")
    return str(folder)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
def test_a_folder(tmp_path, kind):
    data = load_texts(store(in_memory(), tmp_path / "data", kind), **SETTINGS)
    assert {key: len(split) for key, split in data.items()} == {"train": 60, "validation": 12, "test": 18}
    for split in data.values():
        assert sorted(split.column_names) == ["comment", "mood", "topic"]
        groups = GroupIndex.from_dataset(split, "mood", "topic")
        assert groups.label_names == tuple(MOODS) and groups.attribute_names == tuple(TOPICS)
        for i, row in enumerate(split):
            assert row["comment"].split()[1] == str(i)
            assert f"{MOODS[row['mood']]} {TOPICS[row['topic']]}" in row["comment"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet"])
def test_a_single_file(tmp_path, name):
    split, path = in_memory()["train"], tmp_path / name
    if name.endswith("sv"):
        split.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    else:
        (split.to_json if name.endswith("jsonl") else split.to_parquet)(path)
    data = load_texts(str(path), **SETTINGS)
    numbers = sorted(int(row["comment"].split()[1]) for part in data.values() for row in part)
    assert numbers == list(range(60)) and list(data) == ["train", "validation", "test"]


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "rows.xlsx").write_text("")
    with pytest.raises(ValueError, match="rows.xlsx is no data file that can be read; .csv, .tsv, .parquet"):
        load_texts(str(tmp_path / "rows.xlsx"), **SETTINGS)


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_missing_columns_are_named_with_those_found():
    with pytest.raises(ValueError, match="lacks the columns text: it has comment, mood, topic, score, and text, mood"):
        load_texts(in_memory(), label_column="mood", attribute_columns=["topic"])


def test_numbers_are_no_texts():
    with pytest.raises(ValueError, match="holds Value.*in the column 'score', and texts are needed"):
        load_texts(in_memory(), "score", None, "mood", ["topic"])


def test_a_missing_text_is_named_by_its_row():
    def change(split, table):
        if split == "validation":
            table["comment"][7] = None

    with pytest.raises(ValueError, match="split 'validation' has no value of 'comment' in 1 row, .* row 7"):
        load_texts(in_memory(change), **SETTINGS)


@pytest.mark.parametrize("column", ["mood", "topic"])
def test_a_missing_category_is_named_by_its_row(column):
    def change(split, table):
        if split == "test":
            table[column][5] = None

    with pytest.raises(ValueError, match=f"split 'test' has no value of '{column}' in 1 row, the first of them row 5"):
        load_texts(in_memory(change), **SETTINGS)


def test_scores_are_no_categories():
    with pytest.raises(TypeError, match="'score' holds double values, and groups need categories"):
        load_texts(in_memory(), "comment", None, "mood", ["score"])


def test_a_label_that_training_lacks_is_refused():
    def change(split, table):
        if split == "validation":
            table["mood"][3] = table["mood"][4] = "sad"

    with pytest.raises(ValueError, match=r"'validation' has the labels 'sad' \(2 rows\), which training lacks"):
        load_texts(in_memory(change), **SETTINGS)


# ---- tokenizing ---------------------------------------------------------------------------------------------------


def counted(lengths):
    return datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": ["word " * n for n in lengths]}))


def test_long_texts_are_cut_counted_and_told_once(capsys):
    tokenizer = word_tokenizer(["word"])  # [CLS] and [SEP] take two places
    data = tokenize(counted([3, 8, 9, 30, 1]), tokenizer, ["text"], 10)
    assert [len(ids) for ids in data["train"]["input_ids"]] == [5, 10, 10, 10, 3]
    said = capsys.readouterr().out
    assert said.count("Texts with more than 10 tokens are cut: 2 of 5 (train).") == 1 and said.count("cut") == 1
    assert data["train"].column_names == [name for name in data["train"].column_names if "cut" not in name]


def test_nothing_is_said_where_all_texts_fit(capsys):
    tokenize(counted([3, 8]), word_tokenizer(["word"]), ["text"], 10)
    assert "cut" not in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [None, 500])
def test_the_models_limit_holds(chosen, capsys):
    data = tokenize(counted([100]), word_tokenizer(["word"]), ["text"], chosen)
    assert len(data["train"]["input_ids"][0]) == 64
    assert "more than 64 tokens are cut: 1 of 1" in capsys.readouterr().out


def test_a_tokenizer_without_a_limit(capsys):
    tokenizer = word_tokenizer(["word"])
    tokenizer.model_max_length = int(1e30)
    data = tokenize(counted([100]), tokenizer, ["text"])
    assert len(data["train"]["input_ids"][0]) == 102 and "cut" not in capsys.readouterr().out


def test_a_pair_shares_the_room(capsys):
    table = {"first": ["word " * 9, "word"], "second": ["word " * 4, "word"]}
    tokenizer = word_tokenizer(["word"])
    data = tokenize(datasets.DatasetDict(train=datasets.Dataset.from_dict(table)), tokenizer, ["first", "second"], 12)
    assert [len(ids) for ids in data["train"]["input_ids"]] == [12, 5]
    assert data["train"][0]["input_ids"].count(tokenizer.sep_token_id) == 2
    assert "1 of 2 (train)" in capsys.readouterr().out


# ---- the recipe in one command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "text_classification.py"
    spec = importlib.util.spec_from_file_location("text_recipe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tiny_bert(folder):
    tokenizer = word_tokenizer(table_of(60)["comment"])
    torch.manual_seed(0)
    small_text_model(tokenizer, ["a", "b", "c"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_gpt2(folder):
    """A decoder that knows of no padding token."""
    tokenizer = word_tokenizer(table_of(60)["comment"])
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 3}
    GPT2ForSequenceClassification(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run(recipe, name, model, output, *more):
    arguments = [
        *("--dataset_name", name, "--text_column", "comment", "--label_column", "mood"),
        *("--model_name_or_path", model, "--output_dir", str(output), "--use_cpu", "--max_steps", "2"),
        *("--per_device_train_batch_size", "12", "--compare", "none", "--save_strategy", "no"),
        *("--eval_strategy", "no", "--load_best_model_at_end", "false"),
    ]
    return recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, [*arguments, *more]))


@pytest.mark.parametrize("model", [tiny_bert, tiny_gpt2])
def test_a_csv_in_one_command(recipe, model, tmp_path, without_pictures):
    path = tmp_path / "comments.csv"
    in_memory(train=180)["train"].to_csv(path, index=False)
    results = run(recipe, str(path), model(tmp_path / "model"), tmp_path / "out", "--attribute_column", "topic")
    groups = results["GERNE"][0]["groups"]
    assert [(group["label"], group["attribute"]) for group in groups] == [(m, t) for m in MOODS for t in TOPICS]
    assert all(group["count"] in (5, 6, 7) and group["train_count"] in (20, 21, 22) for group in groups)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.id2label == {
        0: "calm",
        1: "rude",
    }
    answers = make_pipeline("text-classification", model=str(tmp_path / "out"))("number 7", top_k=2)
    assert {answer["label"] for answer in answers} == set(MOODS)


def test_a_pair_and_two_attributes_in_one_command(recipe, tmp_path, without_pictures):
    splits = in_memory().map(lambda row: {"reply": "the weather", "long": len(row["comment"]) % 2 == 0})
    name = store(splits, tmp_path / "data", "parquet")
    more = ("--attribute_column", "topic", "long", "--text_pair_column", "reply", "--empty_groups", "ignore")
    results = run(recipe, name, tiny_bert(tmp_path / "model"), tmp_path / "out", *more)
    assert len(results["GERNE"][0]["groups"]) == 12
    assert "trains, late & True" in {group["attribute"] for group in results["GERNE"][0]["groups"]}


def test_unknown_attributes_in_one_command(recipe, tmp_path, without_pictures):
    name = store(in_memory(), tmp_path / "data", "jsonl")
    more = ("--pseudo_attributes", "true", "--threshold", "0.2", "--attribute_column", "topic")
    results = run(recipe, name, tiny_bert(tmp_path / "model"), tmp_path / "out", *more)
    # The texts have no minority, so class-balanced ERM is kept, and the other model has a folder of its own.
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["verdict"].startswith("No method is better")
    assert json.loads((tmp_path / "out" / "group_metrics.json").read_text())["run"]["plan"] == "erm"
    (folder,) = (tmp_path / "out").glob("pseudo-seed*")
    report = json.loads((folder / "group_metrics.json").read_text())
    assert report["train_groups"]["attribute_names"] == ["hard", "easy"]
    assert len(results["GERNE, unknown attributes"][0]["groups"]) == 6


def test_the_columns_are_asked_for(recipe, tmp_path):
    with pytest.raises(SystemExit, match="--attribute_column .* or --pseudo_attributes true"):
        run(recipe, "x", "y", tmp_path)
