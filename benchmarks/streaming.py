r"""Memory and speed of training rows that are streamed by group, their frequencies, and resume.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --rows 1000000

Synthetic rows of four integer columns are written as parquet files, read as a stream by `partition_by_group`, and
streamed for one epoch through a DataLoader, batch by batch, as the plan "independent" lays them out. Memory is the
peak of the process's resident set beyond what it held when idle, that is, after it had done the same with 1,000 rows;
each case runs in a fresh process. Frequencies are counted on the rows that come out, each compared with its plan in
standard errors. Resume: the batches after the middle of the epoch, in a process that never read the ones before. Ends
with one Markdown table; the exit status is 1 if a bound is missed.
"""

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate.data_loader import skip_first_batches
from machine import describe_machine, in_fresh_process, memory
from torch.utils.data import BatchSampler, DataLoader

from gerne_hf import BatchPlan
from gerne_hf.streaming import GroupPartitions, TicketSampler, partition_by_group
from gerne_hf.utils import format_table

NUM_CLASSES, NUM_ATTRIBUTES = 5, 4
SOURCE_FILES = 8
BATCH_ROWS = 128
MOST_MEGABYTES = 200.0
MOST_ERRORS = 4.0
COMPARED_BATCHES = 500
CHUNK = 100_000
COLUMNS = {"label_column": "label", "attribute_column": "place"}


def write_source(rows: int, folder: str) -> None:
    """Files of rows of which nine in ten have the attribute of their label."""
    rng = np.random.default_rng(0)
    bounds = np.linspace(0, rows, SOURCE_FILES + 1).astype(int)
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        schema = pa.schema([(name, pa.int64()) for name in ("label", "place", "row", "value")])
        with pq.ParquetWriter(Path(folder, f"{number}.parquet"), schema) as writer:
            for start in range(begin, end, CHUNK):
                size = min(CHUNK, end - start)
                labels = rng.integers(NUM_CLASSES, size=size)
                tied = rng.random(size) < 0.9
                places = np.where(tied, labels % NUM_ATTRIBUTES, rng.integers(NUM_ATTRIBUTES, size=size))
                values = [labels, places, np.arange(start, start + size), rng.integers(1 << 30, size=size)]
                writer.write_table(pa.table(values, schema=schema))


def loader_of(path: str) -> tuple[DataLoader, BatchPlan]:
    """An epoch of the partition as a Trainer's DataLoader reads it."""
    partitions = GroupPartitions.load(path)
    plan = BatchPlan.build("independent", BATCH_ROWS, partitions.groups.alpha, c=0.5, beta=1.0)
    batches = BatchSampler(TicketSampler(partitions.groups, plan, seed=1), plan.rows, drop_last=False)
    return DataLoader(partitions.reader(), batch_sampler=batches, collate_fn=_columns), plan


def _columns(rows: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def measured(work, *arguments) -> dict:
    """What `work` returns, with its time and its memory beyond that of the idle process."""
    before = memory()["VmRSS"]
    begun = time.perf_counter()
    result = work(*arguments)
    return {**result, "seconds": time.perf_counter() - begun, "beyond": memory()["VmHWM"] - before, "idle": before}


def partition(source: str, path: str) -> dict:
    files = sorted(map(str, Path(source).glob("*.parquet")))
    return {"rows": len(partition_by_group(files, path, **COLUMNS))}


def digest(batches) -> str:
    """A hash of the rows of some batches, in their order."""
    hashed = hashlib.sha256()
    for batch in itertools.islice(batches, COMPARED_BATCHES):
        hashed.update(batch["row"].tobytes())
    return hashed.hexdigest()


def epoch(path: str) -> dict:
    loader, plan = loader_of(path)
    groups = loader.dataset.groups
    found = np.zeros((len(plan.segments), groups.counts.size), dtype=np.int64)
    rows, middle = 0, hashlib.sha256()
    compared = range(len(loader) // 2, len(loader) // 2 + COMPARED_BATCHES)
    for number, batch in enumerate(loader):
        codes = batch["label"] * groups.num_attributes + batch["place"]
        for i, part in enumerate(plan.slices()):
            found[i] += np.bincount(codes[part], minlength=groups.counts.size)
        rows += len(codes)
        if number in compared:
            middle.update(batch["row"].tobytes())
    errors = max(largest_error(found[i], segment, len(loader)) for i, segment in enumerate(plan.segments))
    return {"rows": rows, "errors": errors, "digest": middle.hexdigest(), "bound": loader.dataset.memory_bound}


def largest_error(found: np.ndarray, segment, batches: int) -> float:
    """Largest deviation of a segment's group counts, in standard errors. Of `n p` rows of a class in each batch only
    the fraction is left to chance; attributes are drawn independently within the class."""
    joint = segment.distribution
    found = found.reshape(joint.shape)
    share = segment.rows * joint.sum(axis=1)
    fraction = share - np.floor(share + 1e-9)
    classes = _errors(found.sum(axis=1), batches * share, batches * fraction * (1 - fraction))
    within = joint / joint.sum(axis=1, keepdims=True)
    trials = found.sum(axis=1, keepdims=True)
    return float(max(classes, _errors(found, trials * within, trials * within * (1 - within))))


def _errors(found: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> float:
    exact = variance < 1e-6
    if not np.allclose(found[exact], expected[exact]):
        return float("inf")
    return float(np.max(np.abs(found - expected)[~exact] / np.sqrt(variance[~exact]), initial=0.0))


def resume(path: str) -> dict:
    loader, _ = loader_of(path)
    begun = time.perf_counter()
    batches = iter(skip_first_batches(loader, len(loader) // 2))
    first = next(batches)
    return {"digest": digest(itertools.chain([first], batches)), "skip": time.perf_counter() - begun}


MEASUREMENTS = {"partition": partition, "epoch": epoch, "resume": resume}


def warm_up(name: str) -> None:
    """Load what is loaded once."""
    with tempfile.TemporaryDirectory() as folder:
        write_source(1000, folder)
        path = f"{folder}/partition"
        partition(folder, path)
        if name != "partition":
            epoch(path)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows that are partitioned and streamed")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "ARGUMENTS"), help=argparse.SUPPRESS)
    return parser


def main(args: argparse.Namespace) -> int:
    if args.measure:
        name, arguments = args.measure
        datasets.disable_progress_bars()
        warm_up(name)
        print(json.dumps(measured(MEASUREMENTS[name], *json.loads(arguments))))
        return 0
    if args.rows < 2 * COMPARED_BATCHES * BATCH_ROWS:
        sys.exit(f"--rows must be at least {2 * COMPARED_BATCHES * BATCH_ROWS:,}, two times the batches compared")
    table, missed = [], []

    def add(what: str, figure: str, bound: str, met: bool, remark: str) -> None:
        table.append([what, figure, bound, "yes" if met else "no", remark])
        missed.append(not met)

    with tempfile.TemporaryDirectory() as folder:
        source, path = f"{folder}/source", f"{folder}/partition"
        Path(source).mkdir()
        write_source(args.rows, source)
        written = in_fresh_process(__file__, "partition", source, path)
        streamed = in_fresh_process(__file__, "epoch", path)
        resumed = in_fresh_process(__file__, "resume", path)
    for what, result in (("partition_by_group", written), ("one epoch streamed", streamed)):
        remark = f"{result['rows'] / result['seconds']:,.0f} rows/s, {result['seconds']:.0f} s"
        if "bound" in result:
            remark += f", rows held at most {result['bound'] / 1e6:,.0f} MB"
        remark += f", idle {result['idle'] / 1e6:,.0f} MB"
        beyond = result["beyond"] / 1e6
        met = beyond < MOST_MEGABYTES and result["rows"] >= args.rows
        add(f"{what}, memory", f"{beyond:,.0f} MB", f"< {MOST_MEGABYTES:.0f} MB", met, remark)
    what = "largest deviation of a group from its plan"
    errors, groups = streamed["errors"], NUM_CLASSES * NUM_ATTRIBUTES
    remark = f"{streamed['rows']:,} rows, the largest of {2 * (NUM_CLASSES + groups)} comparisons"
    add(what, f"{errors:.2f} errors", f"<= {MOST_ERRORS:.0f}", errors <= MOST_ERRORS, remark)
    same = resumed["digest"] == streamed["digest"]
    remark = f"{COMPARED_BATCHES} batches from the middle, reached in {resumed['skip']:.1f} s with them"
    add("resume in mid-epoch", "equal" if same else "differs", "equal", same, remark)
    print(f"\n{args.rows:,} rows, {describe_machine()}\n")
    print(format_table(["what", "measured", "bound", "met", "remark"], table))
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
