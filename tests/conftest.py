"""Test set-up: no network, few threads, no state left from one test to the next."""

import os

for _name in (
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_DATASETS_DISABLE_PROGRESS_BARS",
):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# isort: off
from loopback_plugin import pytest_runtest_makereport  # noqa: E402, F401  (the guard, from here on)
# isort: on

import gc  # noqa: E402
import logging  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
import transformers.utils.logging  # noqa: E402, F401  (it defines warning_once)

torch.set_num_threads(1)
pytest.register_assert_rewrite(  # helpers that assert
    *("figures_by_hand", "metric_rows", "partitions_by_hand", "refusals", "report_pages")
)


@pytest.fixture(scope="module", autouse=True)
def imported_once():
    """Every training collects garbage when it begins (Accelerate does), and looks at all objects for that.

    The modules that are imported by now, which have the most of them, are left out: a quarter of a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def warn_again():
    """`warning_once` is once a process; each test must see its own."""
    logging.Logger.warning_once.cache_clear()


@pytest.fixture
def without_pictures(monkeypatch):
    """Drawing takes longer than the tiny runs whose picture nobody looks at; test_evaluation.py has it drawn."""
    monkeypatch.setattr("gerne_hf.reports.plots.plot_training", lambda log_history, path, faults=(): None)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Data sets that are loaded from files leave their Arrow files with the test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def quick_and_quiet():
    """A search logs its trials. Each collects garbage three times; left out of it is the library, too."""
    import optuna  # slow, and few tests need it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
    """Scripts below tests/ are not imported for the examples in their docstrings; those of `gerne_hf` are tests."""
    found = yield
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]
