"""The lowest versions that `make test-min` installs are the lower bounds in pyproject.toml."""

import re
import subprocess
import sys

from lowest_versions import lowest_versions
from places import ROOT, SUPPORT

TEXT = """
[project]
dependencies = ["torch>=2.6", "numpy>=2.0", "free"]
[project.optional-dependencies]
plots = ["matplotlib >= 3.9, < 5"]
peers = ["spuco>=2.0"]
test = ["name[plots]", "pytest>=8.0"]
"""


def test_bounds_become_versions():
    everything = ["torch==2.6", "numpy==2.0", "matplotlib==3.9", "spuco==2.0", "pytest==8.0"]
    assert lowest_versions(TEXT) == everything
    assert lowest_versions(TEXT, ["torch", "peers"]) == ["numpy==2.0", "matplotlib==3.9", "pytest==8.0"]


def test_the_script_prints_those_of_this_package():
    command = [sys.executable, str(SUPPORT / "lowest_versions.py"), str(ROOT / "pyproject.toml"), "torch"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    names = {line.split("==")[0] for line in printed}
    assert {"transformers", "datasets", "accelerate", "numpy", "timm"} <= names and "torch" not in names
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in printed)
