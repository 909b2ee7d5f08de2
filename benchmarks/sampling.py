r"""Speed of the index stream, and speed and memory of GroupIndex.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --rows 1000000      # of the data set that is indexed and sampled from

The index stream is consumed as a DataLoader does it, index by index. Memory is the growth of the process's peak
resident set, each case in a fresh process; what the inputs and the index itself hold is stated beside it. Pages of a
memory-mapped data set count as input: they are the file's, and the kernel drops them when memory is short. For
`--large_rows` the index counts too: the growth is all that building it takes, what it holds afterwards included. Ends
with one Markdown table; the exit status is 1 if a bound is missed.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.arrow_writer import ArrowWriter
from machine import describe_machine, in_fresh_process, memory

from gerne_hf import BatchPlan, GroupIndex, GroupSampler
from gerne_hf.utils import format_table

NUM_CLASSES = NUM_ATTRIBUTES = 10
LEAST_ROWS_PER_SECOND = 1_000_000
MOST_RATIO = 1.25  # a draw is one random read of memory, which takes longer the more there is
MOST_RATIO_WITHOUT_READ = 1.10
MOST_SECONDS = 5.0
MOST_MEGABYTES = 200.0
MOST_SECONDS_LARGE = 30.0
MOST_MEGABYTES_LARGE = 1000.0
SMALL, LARGE = 10_000, 100_000_000
BATCH_ROWS = 128
STREAM_ROWS = 2_000_000
TURN_ROWS = 1 << 17
TURNS, WARM_UP = 12, 4
CHUNK = 1_000_000


def random_codes(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and attributes of `rows` rows, uint8, nine tenths of them tied, made in place chunk by chunk."""
    rng = np.random.default_rng(0)
    labels, attributes = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    for start in range(0, rows, CHUNK):
        part = slice(start, min(start + CHUNK, rows))
        size = part.stop - start
        labels[part] = rng.integers(NUM_CLASSES, size=size, dtype=np.uint8)
        free = rng.integers(NUM_ATTRIBUTES, size=size, dtype=np.uint8)
        attributes[part] = np.where(rng.integers(10, size=size, dtype=np.uint8) > 0, labels[part], free)
    return labels, attributes


def saved_dataset(rows: int, path: str) -> datasets.Dataset:
    """A memory-mapped data set of a ClassLabel and a column of strings."""
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    features = datasets.Features({"label": datasets.ClassLabel(names=names), "place": datasets.Value("string")})
    places = pa.array([f"place {i}" for i in range(NUM_ATTRIBUTES)])
    labels, attributes = random_codes(rows)
    with ArrowWriter(features=features, path=path) as writer:
        for start in range(0, rows, CHUNK):
            part = slice(start, min(start + CHUNK, rows))
            columns = [pa.array(labels[part].astype(np.int64)), places.take(pa.array(attributes[part]))]
            writer.write_table(pa.table(columns, names=list(features)), writer_batch_size=1000)
        writer.finalize()
    return datasets.Dataset.from_file(path)


def timed_index(build) -> tuple[GroupIndex, dict[str, float]]:
    """The index that `build` makes, with the time and the memory of making it."""
    before = memory()
    begun = time.perf_counter()
    index = build()
    seconds = time.perf_counter() - begun
    after = memory()
    own = index.codes.nbytes + index.order.nbytes
    mapped = max(after["RssFile"] - before["RssFile"], 0)
    # The peak before the build is at least what was resident then: what the inputs took in the making counts too.
    beyond = after["VmHWM"] - before["VmRSS"] - own - mapped
    return index, {
        "seconds": seconds,
        "own": own,
        "mapped": mapped,
        "beyond": max(beyond, 0),
        "peak": after["VmHWM"],
    }


def index_arrays(rows: int) -> dict[str, float]:
    labels, attributes = random_codes(rows)
    GroupIndex.from_arrays(labels[:1000], attributes[:1000])  # loads what is loaded once
    index, result = timed_index(lambda: GroupIndex.from_arrays(labels, attributes))
    assert len(index) == rows
    return result


def index_dataset(rows: int, path: str) -> dict[str, float]:
    dataset = datasets.Dataset.from_file(path)
    columns = {"label_column": "label", "attribute_column": "place"}
    GroupIndex.from_dataset(dataset.select(range(1000)), **columns)
    index, result = timed_index(lambda: GroupIndex.from_dataset(dataset, **columns))
    assert len(index) == rows and index.num_attributes == NUM_ATTRIBUTES
    return result


def index_parquet(rows: int, path: str) -> dict[str, float]:
    columns = {"label_column": "label", "attribute_column": "place"}
    pq.write_table(pa.table({"label": [0, 1], "place": ["a", "b"]}), f"{path}.small")
    GroupIndex.from_parquet(f"{path}.small", **columns)
    index, result = timed_index(lambda: GroupIndex.from_parquet(path, **columns))
    assert len(index) == rows and index.num_attributes == NUM_ATTRIBUTES
    return result


def saved_parquet(dataset: datasets.Dataset, path: str) -> None:
    """The data set as one parquet file, row groups of a million rows."""
    with pq.ParquetWriter(path, dataset.features.arrow_schema) as writer:
        for table in dataset.with_format("arrow").iter(CHUNK):
            writer.write_table(table, row_group_size=CHUNK)


def sampler_over(index: GroupIndex, stream_rows: int) -> GroupSampler:
    plan = BatchPlan.build("independent", BATCH_ROWS, index.alpha, c=0.5, beta=1.0)
    return GroupSampler(index, plan, num_rows=stream_rows)


def stream_seconds(sampler: GroupSampler, epoch: int) -> float:
    """Seconds a row of one epoch's stream."""
    sampler.set_epoch(epoch)
    begun = time.perf_counter()
    collections.deque(iter(sampler), maxlen=0)
    return (time.perf_counter() - begun) / len(sampler)


def stream(rows: int) -> dict[str, float]:
    sampler = sampler_over(GroupIndex.from_arrays(*random_codes(rows)), STREAM_ROWS)
    seconds = [stream_seconds(sampler, epoch) for epoch in range(6)]
    return {"seconds_a_row": float(np.median(seconds[1:])), "peak": memory()["VmHWM"]}


def read_seconds(array: np.ndarray, seed: int) -> float:
    """Seconds of one read at a random place of an array, the least that a draw from that many rows can cost."""
    places = np.random.default_rng(seed).integers(len(array), size=1 << 14)
    begun = time.perf_counter()
    array[places]
    return (time.perf_counter() - begun) / len(places)


def stream_ratio(small: int, large: int) -> dict[str, float]:
    """Cost a row at two sizes. Short turns, so that whatever else the machine does slows both alike."""
    samplers = [sampler_over(GroupIndex.from_arrays(*random_codes(rows)), TURN_ROWS) for rows in (small, large)]
    turns = [[stream_seconds(sampler, epoch) for sampler in samplers] for epoch in range(WARM_UP + 10 * TURNS)]
    seconds = np.array(turns[WARM_UP:]).reshape(10, TURNS, 2)
    costs = np.median(seconds, axis=(0, 1)).tolist()
    by_tenth = np.median(seconds, axis=1)
    ratios = by_tenth[:, 1] / by_tenth[:, 0]
    reads = [np.median([read_seconds(sampler.groups.order, turn) for turn in range(40)]) for sampler in samplers]
    return {
        "small_read": float(reads[0]),
        "large_read": float(reads[1]),
        "ratio_without_read": (costs[1] - reads[1]) / (costs[0] - reads[0]),
        "small": costs[0],
        "large": costs[1],
        "ratio": costs[1] / costs[0],
        "least": float(ratios.min()),
        "most": float(ratios.max()),
        "peak": memory()["VmHWM"],
    }


MEASUREMENTS = {
    "index_arrays": index_arrays,
    "index_dataset": index_dataset,
    "index_parquet": index_parquet,
    "stream": stream,
    "stream_ratio": stream_ratio,
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows that are indexed and sampled from")
    parser.add_argument("--large_rows", type=int, default=LARGE, help=f"rows compared with {SMALL:,} rows")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "ARGUMENTS"), help=argparse.SUPPRESS)
    return parser


def main(args: argparse.Namespace) -> int:
    if args.measure:
        name, arguments = args.measure
        print(json.dumps(MEASUREMENTS[name](*json.loads(arguments))))
        return 0
    table, missed = [], []

    def add(what: str, figure: str, bound: str, met: bool, remark: str) -> None:
        table.append([what, figure, bound, "yes" if met else "no", remark])
        missed.append(not met)

    rows = f"{args.rows:,} rows"
    result = in_fresh_process(__file__, "stream", args.rows)
    rate = 1 / result["seconds_a_row"]
    remark = f"{1e9 * result['seconds_a_row']:.0f} ns a row, peak {_mb(result['peak'])}"
    met = rate >= LEAST_ROWS_PER_SECOND
    add(f"index stream, {rows}", f"{rate:,.0f} rows/s", f">= {LEAST_ROWS_PER_SECOND:,}", met, remark)

    result = in_fresh_process(__file__, "stream_ratio", SMALL, args.large_rows)
    remark = (
        f"{1e9 * result['large']:.0f} and {1e9 * result['small']:.0f} ns a row, ratios {result['least']:.2f} to "
        f"{result['most']:.2f}, peak {_mb(result['peak'])}"
    )
    what = f"cost a row, {args.large_rows:,} over {SMALL:,} rows"
    add(what, f"{result['ratio']:.2f}", f"<= {MOST_RATIO:.2f}", result["ratio"] <= MOST_RATIO, remark)
    remark = f"a read takes {1e9 * result['large_read']:.0f} and {1e9 * result['small_read']:.0f} ns"
    rest = result["ratio_without_read"]
    bound, met = f"<= {MOST_RATIO_WITHOUT_READ:.2f}", rest <= MOST_RATIO_WITHOUT_READ
    add("  without one random read of memory", f"{rest:.2f}", bound, met, remark)

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.arrow")
        saved_dataset(args.rows, path)
        results = {
            "arrays": in_fresh_process(__file__, "index_arrays", args.rows),
            "memory-mapped Dataset": in_fresh_process(__file__, "index_dataset", args.rows, path),
        }
    for source, result in results.items():
        met = result["seconds"] < MOST_SECONDS
        add(f"GroupIndex, {source}, {rows}", f"{result['seconds']:.2f} s", f"< {MOST_SECONDS:.0f} s", met, "")
        met = result["beyond"] < MOST_MEGABYTES * 1e6
        mapped = f", mapped pages {_mb(result['mapped'])}" if result["mapped"] > 1e6 else ""
        remark = f"the index holds {_mb(result['own'])}{mapped}, peak of all {_mb(result['peak'])}"
        add(f"  memory beyond {source}", _mb(result["beyond"]), f"< {MOST_MEGABYTES:.0f} MB", met, remark)

    rows = f"{args.large_rows:,} rows"
    with tempfile.TemporaryDirectory() as folder:
        arrow, parquet = str(Path(folder) / "rows.arrow"), str(Path(folder) / "rows.parquet")
        saved_parquet(saved_dataset(args.large_rows, arrow), parquet)
        results = {
            "parquet": in_fresh_process(__file__, "index_parquet", args.large_rows, parquet),
            "memory-mapped Dataset": in_fresh_process(__file__, "index_dataset", args.large_rows, arrow),
        }
    for source, result in results.items():
        met = result["seconds"] < MOST_SECONDS_LARGE
        add(f"GroupIndex, {source}, {rows}", f"{result['seconds']:.1f} s", f"< {MOST_SECONDS_LARGE:.0f} s", met, "")
        grown = result["own"] + result["beyond"]
        remark = f"the index holds {_mb(result['own'])} of it, mapped pages {_mb(result['mapped'])} are not counted"
        bound = f"< {MOST_MEGABYTES_LARGE:.0f} MB"
        add("  memory, index included", _mb(grown), bound, grown < MOST_MEGABYTES_LARGE * 1e6, remark)
    print(f"\n{describe_machine()}\n\n{format_table(['what', 'measured', 'bound', 'met', 'remark'], table)}")
    return int(any(missed))


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
