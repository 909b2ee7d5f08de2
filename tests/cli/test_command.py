"""`gerne-hf`: what each command prints and writes, how errors look, and what must not be imported."""

import json
import os
import subprocess
import sys
import time

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from places import ROOT

from gerne_hf.cli.app import main
from gerne_hf.cli.groups import explanations
from gerne_hf.cli.train import COMPARED, compare_arguments, launch_options, recipe_names, run_recipe_script
from gerne_hf.comparison.methods import METHODS
from gerne_hf.models import small_text_model, word_tokenizer

WORDS = np.array([["bad", "good"], ["film", "book"]])


def sentences(rows=240, seed=0, minority=0.1):
    """A text whose first word is the class; its second one, the topic, goes with the class in nearly all rows."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, rows)
    topic = np.where(rng.random(rows) < minority, 1 - label, label)
    text = [f"{WORDS[0][a]} {WORDS[1][b]}" for a, b in zip(label, topic, strict=True)]
    names = {"sentiment": np.array(["neg", "pos"])[label], "topic": WORDS[1][topic]}
    return datasets.Dataset.from_dict({"text": text, **names})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model and the rows that it is judged on, in folders."""
    folder = tmp_path_factory.mktemp("cli")
    rows = sentences()
    tokenizer = word_tokenizer(rows["text"][:])
    torch.manual_seed(0)
    model = small_text_model(tokenizer, ["neg", "pos"])
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    datasets.DatasetDict(train=rows, test=rows.select(range(60))).save_to_disk(folder / "rows")
    return folder


def predictions(path, rows=50):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows)
    data = pd.DataFrame({"prediction": 1 - labels, "label": labels, "place": rng.integers(0, 2, rows)})
    data.to_csv(path, index=False)
    return str(path)


# ---- evaluate -------------------------------------------------------------------------------------------------------


def test_a_file_of_predictions(tmp_path, capsys):
    path = predictions(tmp_path / "found.csv")
    outcome = main(
        ["evaluate", "--predictions", path, "--attribute_column", "place", "--output_dir", str(tmp_path / "o")]
    )
    said = capsys.readouterr().out
    assert outcome == 0 and "| (0, 0) |" in said and "worst group accuracy 0.0" in said
    assert sorted(os.listdir(tmp_path / "o")) == ["_report.html", "comparison.png", "group_metrics.json"]
    assert main(["report", str(tmp_path / "o"), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_nothing_heavy_is_imported_for_a_file(tmp_path):
    path = predictions(tmp_path / "found.csv")
    script = (
        "import sys; from gerne_hf.cli.app import main\n"
        f"assert main(['evaluate', '--predictions', {path!r}, '--attribute_column', 'place']) == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    assert time.perf_counter() - begin < 10  # a second on an idle machine


def test_a_model(saved, tmp_path, capsys):
    command = ["evaluate", "--model", str(saved / "model"), "--dataset", str(saved / "rows"), "--label_column"]
    rest = ["sentiment", "--attribute_column", "topic", "--text_column", "text", "--extra_metrics", "auroc"]
    assert main([*command, *rest, "--output_dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "| (neg, book) |" in said and "AUROC" in said
    result = json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"]["test"]
    assert sum(group["count"] for group in result["groups"]) == 60


def test_labels_of_a_model(saved, capsys):
    from gerne_hf.cli.model import labels_of_model

    rows = sentences(20)
    codes = labels_of_model(rows, "sentiment", ["pos", "neg"], "m")
    assert codes.tolist() == [["pos", "neg"].index(name) for name in rows["sentiment"]]
    assert labels_of_model(rows, "sentiment", ["POS", "Neg"], "m").tolist() == codes.tolist()
    numbers = datasets.Dataset.from_dict({"label": [0, 1, 1]})
    assert labels_of_model(numbers, "label", ["neg", "pos"], "m").tolist() == [0, 1, 1]
    assert "0 = neg, 1 = pos" in capsys.readouterr().out
    classes = rows.class_encode_column("sentiment")
    assert labels_of_model(classes, "sentiment", ["LABEL_0", "LABEL_1"], "m").tolist() == classes["sentiment"][:]
    assert "neg = LABEL_0" in capsys.readouterr().out
    for column, names in (("topic", ["neg", "pos"]), ("sentiment", ["LABEL_0", "LABEL_1"])):
        with pytest.raises(ValueError, match="are not the classes of m"):
            labels_of_model(rows, column, names, "m")
    with pytest.raises(ValueError, match="are not the classes"):
        labels_of_model(datasets.Dataset.from_dict({"label": [0, 5]}), "label", ["a", "b"], "m")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate"], "--predictions FILE, or --model"),
        (["evaluate", "--predictions", "x.csv"], "--attribute_column"),
        (["evaluate", "--predictions", "no.csv", "--attribute_column", "a"], "there is no file no.csv"),
        (["evaluate", "--model", "m", "--attribute_column", "a"], "--dataset"),
        (["evaluate", "--prediction", "x"], "No such option"),
        (["evaluate", "--batch_size", "0"], "--batch_size"),
        (["groups"], "--dataset"),
        (["evaluat"], "No such command 'evaluat'"),
        (["train", "nothing"], "there are bffhq, celeba"),
        (["train", "multinli", "--num_processes", "0"], "at least 1; found 0"),
        (["report", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_errors_are_a_sentence(arguments, said, capsys):
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert said in error and error.startswith("gerne-hf: ") and "Traceback" not in error and error.count("\n") <= 3


@pytest.mark.parametrize("command", (["evaluate", "--model", "any", "--attribute_column", "topic"], ["groups"]))
def test_without_a_network_the_command_names_its_own_options(command, monkeypatch, capsys, tmp_path):
    def no_network(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--dataset", "somebody/rows"]) == 1
    error = capsys.readouterr().err
    assert "--dataset 'somebody/rows' is a folder or an id on the Hub" in error
    assert "--demo" not in error and "--dataset_name" not in error


def test_a_traceback_for_those_who_ask(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--traceback", "evaluate", "--predictions", "no.csv", "--attribute_column", "a"])


def test_split_and_columns_of_a_model(saved, capsys):
    command = ["evaluate", "--model", "m", "--dataset", str(saved / "rows"), "--attribute_column", "topic"]
    assert main([*command, "--split", "dev"]) == 1
    assert "has no split 'dev': it has train, test" in capsys.readouterr().err
    assert main([*command, "--label_column", "sentimnt"]) == 1
    assert "has no column 'sentimnt': it has text, sentiment, topic" in capsys.readouterr().err


def test_help_fits_a_screen(capsys):
    for command in ([], ["evaluate"], ["groups"], ["report"], ["env"]):
        assert main([*command, "--help"]) == 0
        assert capsys.readouterr().out.count("\n") < 45
    for command in (["train"], ["train", "--help"]):
        assert main(command) == 0
        assert "multinli" in capsys.readouterr().out


def test_versions_for_an_issue(capsys):
    assert main(["env"]) == 0
    said = capsys.readouterr().out
    assert f"- torch: {torch.__version__.split('+')[0]}" in said and "- Python: 3." in said and "- devices: " in said


# ---- groups ---------------------------------------------------------------------------------------------------------


def test_hidden_groups(saved, tmp_path, capfd, without_pictures):
    command = ["groups", "--dataset", str(saved / "rows"), "--label_column", "sentiment", "--text_column", "text"]
    rest = [
        "--model",
        str(saved / "model"),
        "--epochs",
        "2",
        "--learning_rate",
        "0.003",
        "--output_dir",
        str(tmp_path),
    ]
    assert main([*command, *rest]) == 0
    said = capfd.readouterr().out
    assert "no validation split" in said and "Groups inferred by the rule 'confident_mistakes'" in said
    rows = datasets.load_from_disk(str(tmp_path / "rows_with_groups"))
    assert set(rows.unique("pseudo_attribute")) <= {"hard", "easy"} and "text" in rows.column_names
    assert sorted(rows.column_names) == ["pseudo_attribute", "sentiment", "text", "topic"] and len(rows) == 240
    found = json.loads((tmp_path / "inferred_groups.json").read_text())
    assert {entry["label"] for entry in found["classes"]} == {"neg", "pos"}
    csv = pd.read_csv(tmp_path / "_examples" / "pseudo_attributes.csv")
    assert csv["hard"].sum() == (np.array(rows["pseudo_attribute"][:]) == "hard").sum()
    assert "Taken for a minority" in (tmp_path / "_report.html").read_text()


def test_hidden_groups_refuse_before_training_what_they_cannot_write(saved, tmp_path, capsys):
    rows = datasets.load_from_disk(str(saved / "rows"))["train"]
    command = ["groups", "--label_column", "sentiment", "--text_column", "text", "--output_dir", str(tmp_path / "o")]
    rows.add_column("pseudo_attribute", ["easy"] * len(rows)).save_to_disk(tmp_path / "again")
    assert main([*command, "--dataset", str(tmp_path / "again")]) == 1
    assert "has a column 'pseudo_attribute' already" in capsys.readouterr().err
    texts = [None if i == 4 else text for i, text in enumerate(rows["text"])]
    rows.remove_columns("text").add_column("text", texts).save_to_disk(tmp_path / "holes")
    assert main([*command, "--dataset", str(tmp_path / "holes")]) == 1
    assert "no value of 'text' in 1 row, the first of them row 4" in capsys.readouterr().err
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "group_metrics.json").write_text("{}")
    assert main([*command, "--dataset", str(saved / "rows")]) == 1
    assert "would be lost" in capsys.readouterr().err


def test_what_explains_the_hard_rows_is_said(tmp_path):
    value = {"label": "pos", "value": "film", "share_of_hard": 0.9, "share_of_others": 0.1}
    found = {
        "classes": [{"hard": 12}],
        "explaining_columns": [{"column": "topic", "values": [value]}],
        "label_noise": {"rows": 1200, "hard": 3, "first_rows": [4, 5, 6]},
    }
    path = tmp_path / "inferred_groups.json"
    path.write_text(json.dumps(found))
    first, second = explanations(str(path))
    assert first == (
        "The column 'topic' goes with the hard rows: 'film' in 90 % of the hard rows of pos and in 10 % of its others."
    )
    assert second == "1,200 rows look mislabelled, 3 of them hard: rows 4, 5, 6, ..."
    path.write_text(json.dumps({**found, "explaining_columns": [], "label_noise": None}))
    assert explanations(str(path)) == ["No column of the data explains the hard rows; look at them on the page."]
    path.write_text(json.dumps({"classes": [{"hard": 0}], "explaining_columns": [], "label_noise": None}))
    assert explanations(str(path)) == []


# ---- train and compare ----------------------------------------------------------------------------------------------


def test_recipes_are_those_of_the_folder():
    assert recipe_names() == sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))


def test_compare_names_methods_unless_it_is_told():
    assert compare_arguments(["--compare=erm"]) == ["--compare=erm"]
    assert compare_arguments([])[-1] == COMPARED and set(COMPARED.split(",")) <= set(METHODS)


def test_a_recipe_is_launched_with_its_arguments(monkeypatch):
    seen = {}

    def run(command, env, check):
        seen.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("gerne_hf.cli.train.subprocess.run", run)
    assert main(["train", "multinli", "--num_processes", "2", "--demo", "--c", "0.5"]) == 3
    assert seen["command"][-4:] == [str(ROOT / "recipes" / "multinli.py"), "--demo", "--c", "0.5"]
    assert "launch" in seen["command"] and seen["env"]["GERNE_HF_PLAIN_ERRORS"] == "1"
    assert launch_options(2)[-2:] == ["--num_processes", "2"] and "--quiet" in launch_options(1)
    assert main(["compare", "waterbirds.py", "--demo"]) == 3
    assert seen["command"][-2:] == ["--compare", COMPARED]


@pytest.mark.slow
def test_errors_of_a_recipe_are_a_sentence(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", "import sys; from gerne_hf.cli.app import main; sys.exit(main(sys.argv[1:]))"]
        + ["train", "text_classification", "--dataset_name", str(tmp_path), "--attribute_column", "a"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert found.stderr.count("\n") <= 4 and str(tmp_path) in found.stderr


def test_a_recipe_that_is_not_there():
    with pytest.raises(ValueError, match="there is no recipe 'nosuch'"):
        run_recipe_script("nosuch", [])
