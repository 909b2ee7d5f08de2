"""The metric loaded without a network and with caches of its own.

No `__init__.py` here: `evaluate` imports loaded scripts from a package called `evaluate_modules`.
"""

import socket
import sys

import evaluate
import pytest

from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Fresh caches, offline mode, and an error for whoever opens a connection all the same."""
    home = tmp_path_factory.mktemp("hf_home")

    def refuse(*arguments, **kwargs):
        raise AssertionError(f"a connection was opened: {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", str(home / "metrics"))
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(home / "modules"))
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(sys, "path", list(sys.path))
        yield home
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        del sys.modules[name]  # its scripts lie in a folder that is no longer on the path


@pytest.fixture
def metric(caches):
    return evaluate.load(GROUP_ACCURACY_PATH)
