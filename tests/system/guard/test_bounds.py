"""The bounds that benchmarks print: what they are measured against, and when they are met."""

import sys

import numpy as np
import pytest
from places import ROOT


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in ("processes", "sampling", "overhead", "machine"):
        sys.modules.pop(name, None)


def test_two_processes_are_measured_against_two_runs_apart(benchmarks):
    import processes

    # a machine whose two cores do 0.9 of twice the work of one; the third round is a slow spell for all
    rates = np.array([[100, 171, 180], [100, 171, 180], [50, 85.5, 90]])
    found = processes.judged(rates, 2)
    assert found["ratio"] == pytest.approx(0.95) and found["quartiles"] == pytest.approx([0.95, 0.95])
    assert found["met"] and found["together_over_one"] == pytest.approx(0.855)
    assert found["apart_over_one"] == pytest.approx(0.9)
    assert not processes.judged(rates * [1, 0.97, 1], 2)["met"]  # 0.92


def test_a_draw_from_many_rows_may_cost_a_read_of_memory(benchmarks, monkeypatch, capsys):
    import sampling

    ratio = {"small": 8e-8, "large": 9.9e-8, "ratio": 1.24, "least": 1.2, "most": 1.3, "peak": 1e9}
    ratio |= {"small_read": 1e-9, "large_read": 1.2e-8, "ratio_without_read": 1.09}
    index = {"seconds": 1.0, "own": 1e6, "mapped": 0, "beyond": 1e6, "peak": 1e9}
    answers = {"stream": {"seconds_a_row": 1e-7, "peak": 1e9}, "stream_ratio": ratio}
    monkeypatch.setattr(sampling, "in_fresh_process", lambda script, name, *_: answers.get(name, index))
    monkeypatch.setattr(sampling, "saved_dataset", lambda rows, path: None)
    monkeypatch.setattr(sampling, "saved_parquet", lambda dataset, path: None)

    def printed():
        status = sampling.main(sampling.make_parser().parse_args([]))
        lines = capsys.readouterr().out.splitlines()
        (line,) = (line for line in lines if "cost a row" in line)
        return status, [cell.strip() for cell in line.strip("|").split("|")][1:4]

    assert printed() == (0, ["1.24", "<= 1.25", "yes"])
    ratio["ratio"] = 1.26
    assert printed() == (1, ["1.26", "<= 1.25", "no"])
