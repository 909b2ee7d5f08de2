"""What the tests of pushes share: runs that push, and what lies on the Hub and at home afterwards."""

import json
import re
import shlex
import sys

from places import SUPPORT

PRIVATE = ("training_args.bin", "trainer_state.json", "run.json", "validation_rows.npz")
"""Files of an output folder that are not published."""
SCRIPT = str(SUPPORT / "published.py")


def train(client, runs, **options):
    """Run them in a process of their own. They stand in a file, as cards show a command line."""
    path = client.folder / f"runs_of_{runs[0]['name']}.json"
    path.write_text(json.dumps(runs))
    return client.run([sys.executable, SCRIPT, str(path)], OMP_NUM_THREADS="1", **options)


def titles(hub, name):
    return [commit.title for commit in hub.repository(f"tester/{name}").history()][:-1]


def report(files, folder=""):
    return json.loads(files[f"{folder}group_metrics.json"].content)


def hashes(files):
    return {path: blob.sha256 for path, blob in files.items()}


def push_again(client, message):
    """Run the commands that a message names, as a person would."""
    commands = re.findall(r"^\s*(hf upload .*)$", message, re.MULTILINE)
    for command in commands:
        client.run([sys.executable, "-m", "huggingface_hub.cli.hf", *shlex.split(command)[1:]])
    return len(commands)


def local(client, name):
    """Files of an output folder that belong to the root of the repository."""
    folder = client.folder / name
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith("_")]
    return {path.name: path.read_bytes() for path in files if path.name not in PRIVATE}
