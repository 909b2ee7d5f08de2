"""What a training leaves behind: no token anywhere, no pickle read, and nothing outside output_dir and the caches."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import python_path

HUB_TOKEN, LOGIN_TOKEN = "hf_" + "cOnFiG" * 6, "hf_" + "eNvIrO" * 6

SCRIPT = """
import json, os, sys, traceback

watched, pickles = set(), []

def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1], args[2]
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
        if writes:
            watched.add(os.path.abspath(os.fsdecode(args[0])))
    elif event in ("os.mkdir", "os.symlink", "os.link", "os.rename"):
        places = args[:1] if event == "os.mkdir" else args[:2]
        watched.update(os.path.abspath(os.fsdecode(place)) for place in places if isinstance(place, (str, bytes)))
    elif event == "pickle.find_class":
        pickles.append(".".join(map(str, args)))

import torch, datasets, transformers
from helpers import config, mlp, table
from gerne_hf import GerneTrainer
transformers.logging.set_verbosity_debug()
sys.addaudithook(hook)
output_dir, token = sys.argv[1:]
settings = dict(hub_token=token, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, max_steps=4)
settings |= dict(log_level="debug", load_best_model_at_end=True, metric_for_best_model="worst_group_accuracy")

def build(**more):
    args = config(output_dir, **{**settings, **more})
    print(args, repr(args), args.to_json_string())
    return GerneTrainer(model=mlp(), args=args, train_dataset=table(), eval_dataset=table(seed=1))

build(pseudo_attributes=True, threshold=0.2).train()
trainer = build()
trainer.train()
trainer.save_model()
trainer.create_model_card()
resumed = build(max_steps=6)
resumed.train(resume_from_checkpoint=True)
resumed.predict(table(seed=2))
for wrong in (dict(c=2.0), dict(beta=50.0), dict(push_to_hub=True, hub_model_id="someone/something")):
    try:
        build(**wrong)
    except Exception as error:
        traceback.print_exc()
        print("REFUSED", list(wrong)[0], repr(error), error.args)
print("REPORT", json.dumps({"written": sorted(watched), "pickles": sorted(set(pickles))}))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """The script, run in a process with an empty home, working and temporary folder of its own."""
    folder = tmp_path_factory.mktemp("trained")
    places = {name: folder / name for name in ("home", "cwd", "tmp", "caches", "out")}
    for place in places.values():
        place.mkdir()
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    places["home"].chmod(0o500)
    places["cwd"].chmod(0o500)
    environment = {
        **os.environ,
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "HF_HOME": str(places["caches"]),
        "MPLCONFIGDIR": str(places["caches"] / "matplotlib"),
        "HF_TOKEN": LOGIN_TOKEN,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": python_path(),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, str(folder / "script.py"), str(places["out"]), HUB_TOKEN],
        cwd=places["cwd"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done, folder


def tokens_in(folder: Path) -> list[str]:
    """The files below a folder whose bytes, or those of an archive's members, hold a token or its middle."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        if any(token[3:-3].encode(coding) in part for token in TOKENS for coding in CODINGS for part in parts):
            found.append(str(path.relative_to(folder)))
    return found


TOKENS, CODINGS = (HUB_TOKEN, LOGIN_TOKEN), ("utf-8", "utf-16-le")


def test_the_search_finds_tokens(tmp_path):
    (tmp_path / "a.txt").write_text(f"token={HUB_TOKEN}")
    with zipfile.ZipFile(tmp_path / "b.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", LOGIN_TOKEN)
    (tmp_path / "c.txt").write_text("hf_")
    assert sorted(tokens_in(tmp_path)) == ["a.txt", "b.bin"]


def test_no_token_in_any_file(trained):
    _, folder = trained
    names = {path.name for path in (folder / "out").rglob("*")}
    assert {"training_args.bin", "README.md", "trainer_state.json", "checkpoint-4"} <= names
    assert tokens_in(folder) == []


def test_no_token_in_what_is_said(trained):
    done, _ = trained
    assert "worst_group_accuracy" in done.stdout and len(done.stderr) > 1000
    for said in (done.stdout, done.stderr):
        assert not any(token[3:-3] in said for token in TOKENS)


def test_errors_were_raised_with_the_token_at_hand(trained):
    """Their tracebacks and messages are part of what is said."""
    done, _ = trained
    refused = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert refused == ["c", "beta"]
    assert "c, the degree" in done.stderr and "Connection refused" in done.stderr  # warned of, and gone on without


def report(done: subprocess.CompletedProcess) -> dict:
    return json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("REPORT")).split(maxsplit=1)[1]
    )


def test_nothing_is_written_elsewhere(trained):
    done, folder = trained
    assert [path for name in ("home", "cwd") for path in (folder / name).rglob("*")] == []
    assert [path for path in (folder / "tmp").rglob("*") if path.is_file()] == []  # torch leaves a folder, empty
    allowed = [str(folder / name) + os.sep for name in ("out", "caches", "tmp")] + ["/dev/", "/proc/"]
    written = report(done)["written"]
    assert any("checkpoint-4" in path for path in written)
    places = {str(folder / name) for name in ("out", "caches", "tmp")}
    assert [path for path in written if path not in places and not path.startswith(tuple(allowed))] == []


def test_no_pickle_is_read_in_training_saving_and_resuming(trained):
    done, _ = trained
    assert report(done)["pickles"] == []
