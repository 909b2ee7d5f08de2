"""What the tests of pushes share: runs that push, and what lies on the Hub and at home afterwards."""

import json
import re
import shlex
import sys

from places import SUPPORT

SCRIPT = str(SUPPORT / "published.py")


def train(client, runs, **options):
    return client.run([sys.executable, SCRIPT, json.dumps(runs)], OMP_NUM_THREADS="1", **options)


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


def local(client, name, exclude=()):
    """Files of an output folder that belong to the root of the repository, none of which begins with an underscore."""
    folder = client.folder / name
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith("_")]
    return {path.name: path.read_bytes() for path in files if path.name not in exclude}
