"""The command `gerne-hf`: how long it takes to start, and to evaluate a file of predictions, and in what memory.

    python benchmarks/command.py --rows 1000000 40000000

Each command is a process of its own, started as a user starts it; the median of the repeats is shown.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import describe_machine
from pyarrow import csv

from gerne_hf.utils import format_table

RUN = "import sys; from gerne_hf.cli import main; sys.exit(main())"
MEASURED = (
    "import re, sys; from gerne_hf.cli import main; code = main(); "
    "print('peak', re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
)
"""The same, and its peak memory in kB, as Linux knows it."""

ROWS_AT_ONCE = 1_000_000


def write_predictions(path: Path, rows: int) -> None:
    """Write a file with the columns prediction, label and place, of three classes and four places."""
    rng, names = np.random.default_rng(0), np.array(["cat", "dog", "bird"])
    writer = None
    for begin in range(0, rows, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, rows - begin)
        label = rng.integers(0, 3, count)
        found = np.where(rng.random(count) < 0.9, label, (label + 1) % 3)
        table = pa.table({"prediction": names[found], "label": names[label], "place": rng.integers(0, 4, count)})
        writer = writer or csv.CSVWriter(str(path), table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def seconds_and_peak(arguments: list[str], repeats: int) -> tuple[float, float, float]:
    """Return the median and the largest time of a command in seconds, and its peak memory in MB."""
    times, peaks = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", RUN, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True)
    peaks.append(int(done.stdout.rsplit("peak ", 1)[1]) / 1e3)
    return statistics.median(times), max(times), max(peaks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[1_000_000], help="rows of the files of predictions")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    lines = []

    def line(what: str, words: list[str], bound: str) -> None:
        median, most, peak = seconds_and_peak(words, arguments.repeats)
        lines.append([what, f"{median:.2f}", f"{most:.2f}", f"{peak:.0f}", bound])

    line("gerne-hf --help", ["--help"], "0.7 s")
    line("gerne-hf evaluate --help", ["evaluate", "--help"], "0.7 s")
    with tempfile.TemporaryDirectory() as folder:
        for rows in arguments.rows:
            path = Path(folder) / "found.csv"
            write_predictions(path, rows)
            words = ["evaluate", "--predictions", str(path), "--attribute_column", "place"]
            what = f"evaluate --predictions, {rows:,} rows, {path.stat().st_size / 1e6:.0f} MB"
            line(what, words, "2 s" if rows <= 1_000_000 else "-")
    print(f"{describe_machine()}\n")
    print(format_table(["command", "median, s", "largest, s", "peak, MB", "bound"], lines))


if __name__ == "__main__":
    main()
