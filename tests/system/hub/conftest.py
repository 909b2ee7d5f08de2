"""Clients of the loopback Hub run in processes of their own: Hugging Face reads its environment when imported."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from endpoints import WRITE_TOKEN
from places import ROOT, python_path
from server import Hub

FOREIGN = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")

EXCHANGE = """
import json, sys
import hub_data_sets, hub_scores
print("\\n" + json.dumps({module.__name__: getattr(module, sys.argv[1])() for module in (hub_data_sets, hub_scores)}))
"""


@dataclass
class Output:
    """What a client's process left."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """The JSON of the last line that was printed."""
        return json.loads(self.stdout.strip().splitlines()[-1])


class Clients:
    """Starts processes that know no host but the Hub, each with an empty HF_HOME."""

    def __init__(self, hub: Hub, folder: Path):
        self.hub, self.folder, self._numbers = hub, folder, count()

    def environment(self, token: str | None = WRITE_TOKEN, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {
            **kept,
            **self.hub.environment(),
            **({} if token is None else {"HF_TOKEN": token}),
            "HF_HOME": str(self.folder / f"home{next(self._numbers)}"),
            "PYTHONPATH": python_path(ROOT / "tests" / "data"),  # whose miniatures hub_data_sets.py takes
            **more,
        }

    def run(self, command: list[str], *, check: bool = True, timeout: float = 240, **environment: Any) -> Output:
        """Run a program; with `check` a failure fails the test."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return Output(done.returncode, done.stdout, done.stderr)

    def __call__(self, code: str, *arguments: Any, **options: Any) -> Output:
        """Run Python code; `sys.argv[1:]` holds the arguments."""
        return self.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], **options)


def start(folder: Path):
    with Hub() as hub:
        yield Clients(hub, folder)
        hub.check()


@pytest.fixture(autouse=True)
def warn_again():
    """In place of the fixture for tests that import Transformers: here each client is a process of its own."""


@pytest.fixture
def client(tmp_path):
    """Starts clients of a Hub of the test's own, `client.hub`; stray requests fail the test."""
    yield from start(tmp_path)


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory):
    """As `client`, one Hub for all tests of a module."""
    yield from start(tmp_path_factory.mktemp("hub"))


@dataclass
class Exchange:
    """What two processes found, by module, and the Hub between them."""

    hub: Hub
    pushed: dict[str, Any]
    loaded: dict[str, Any]


@pytest.fixture(scope="session")
def exchanged(tmp_path_factory):
    """Data sets, scores and the metric: one process pushes them, another loads them with an empty cache."""
    for clients in start(tmp_path_factory.mktemp("exchange")):
        hub = clients.hub
        hub.owners.update({"nyu-mll", "grodino", "flwrlabs", "shlomihod", "pietrolesci", "ylecun", "uoft-cs"})
        hub.owners.update({"somebody", "reader"})
        hub.fault("tester/fault/commit/", 500, times=2)
        hub.fault("spaces/tester/group_accuracy/commit/", 500)
        done = [clients(EXCHANGE, step, OMP_NUM_THREADS="1").result for step in ("push", "load")]
        yield Exchange(hub, *done)
