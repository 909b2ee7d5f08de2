"""No key, no password and no address with either in the card, the page or any other file of a run."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import table, trainer
from workshop import Workshop

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.comparison import compare
from gerne_hf.recipes import RecipeArguments
from gerne_hf.recipes.run import card_facts
from gerne_hf.reports.page import write_report
from gerne_hf.reports.reproduction import reproduction_command

pytestmark = pytest.mark.usefixtures("without_pictures")

SECRET, NOTE = "hunter2correcthorse", "a text that nobody knows"
SPELLINGS = {
    "an option and its value": ["--api_key", SECRET],
    "an option with dashes": ["--api-key", SECRET],
    "with an equals sign": [f"--password={SECRET}"],
    "a short option": ["-p", SECRET],
    "glued to a short option": [f"-p{SECRET}"],
    "a name that says nothing": ["--x", SECRET],
    "a value that looks like an option": ["--password", f"--{SECRET}"],
    "several values": ["--credentials", "me", SECRET],
    "without an option": [SECRET],
    "after a switch": ["--demo", SECRET],
    "in place of a number": ["--beta", SECRET],
    "an address": ["--dataset_name", f"postgresql://user:{SECRET}@host/db"],
    "an address with odd signs": [f"--storage=mysql+pymysql://user:a/b?c#{SECRET}@host/db"],
    "a signed address": ["--dataset_name", f"https://host/data.csv?sig={SECRET}"],
    "JSON": ["--storage_options", json.dumps({"key": SECRET, "secret": SECRET})],
    "JSON of a known option": ["--method_settings", json.dumps({"erm": {"hub_token": SECRET}})],
    "an assignment": [f"api_key={SECRET}"],
    "a header": ["--header", f"Authorization: Bearer {SECRET}"],
    "a token of the Hub": ["--whose", f"hf_{SECRET}"],
    "a name of a column": ["--attribute_column", f"token={SECRET}"],
}


@dataclass
class Config(GerneConfig):
    api_key: str | None = None
    store: str | None = None
    note: str | None = None
    storage_options: str | None = None


def files_with(folder, text):
    return [path for path in Path(folder).rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("words", SPELLINGS.values(), ids=SPELLINGS)
def test_the_command_tells_no_secret(words):
    command = reproduction_command(["mine.py", "--seed", "3", *words, "--c", "0.5"])
    assert SECRET not in command and "--seed 3" in command and command.endswith("--c 0.5")


def test_no_file_of_a_run_has_one(tmp_path, monkeypatch):
    words = [word for spelling in SPELLINGS.values() for word in spelling]
    monkeypatch.setattr("sys.argv", ["/home/me/mine.py", *words])
    secrets = dict(api_key=SECRET, store=f"postgresql://me:{SECRET}@host/db", note=NOTE, storage_options=SECRET)
    given = trainer(tmp_path, hub_token=SECRET).args
    values = {name: getattr(given, name) for name in ("attribute_column", "max_steps", "logging_steps", "use_cpu")}
    values |= dict(output_dir=str(tmp_path / "run"), hub_token=SECRET, report_to="none", save_steps=1)
    args = Config(**values, **secrets)
    subject = GerneTrainer(trainer(tmp_path).model, args, train_dataset=table(), eval_dataset=table(seed=3))
    subject.train()
    subject.save_model()
    subject.create_model_card(other_settings={"password": SECRET, "place": f"s3://me:{SECRET}@host/x"})
    write_report(args.output_dir)
    written = {path.name for path in Path(args.output_dir).rglob("*")}
    assert {"README.md", "group_metrics.json", "_report.html", "training_args.bin", "checkpoint-2"} <= written
    assert not files_with(args.output_dir, SECRET)
    assert {path.name for path in files_with(args.output_dir, NOTE)} == {"training_args.bin"}
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "| `store` " in card and "s3&#58;//host/x" in card and "| `note` " in card
    kept = pickle.loads(pickle.dumps(args))
    assert (kept.api_key, kept.store, kept.storage_options) == (None, "postgresql://host/db", None)
    assert args.api_key == SECRET  # the run itself has it


def test_no_file_of_a_comparison_has_one(tmp_path):
    shop = Workshop(tmp_path)
    made_with = {"dataset_name": f"postgresql://me:{SECRET}@host/db", "storage_options": {"key": SECRET}}
    compare(["erm", "independent"], shop.config, shop.make_trainer, shop.test, made_with=made_with)
    assert (tmp_path / "run.json").is_file() and not files_with(tmp_path, SECRET)


@pytest.mark.parametrize("name", [f"me:{SECRET}@host/db", f"https://host/x?sig={SECRET}", f"s3://me:{SECRET}@b/x"])
def test_the_place_of_the_data_is_told_without_them(name):
    assert SECRET not in str(card_facts("mine", RecipeArguments(dataset_name=name)))
    assert SECRET not in str(card_facts("waterbirds", RecipeArguments(dataset_name=name)))
