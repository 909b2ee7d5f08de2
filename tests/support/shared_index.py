"""What test_shared_index.py runs on 3 forked processes: indexes that each reads a part of."""

import json
import sys
from pathlib import Path

import accelerate
import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset
from helpers import Rows, mlp, trainer

import gerne_hf.reports.plots
from gerne_hf import GroupIndex
from gerne_hf.groups.sharing import Shards
from gerne_hf.training import checks

PROCESSES = 3


def data(rows: int, values: int = 3, seed: int = 0) -> Dataset:
    """Labels, and attributes of every kind; the last value occurs in the last row only."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(max(values - 1, 1), size=rows)
    numbers[-1:] = values - 1
    columns = {
        "label": rng.integers(3, size=rows).tolist(),
        "number": (10 * numbers - 20).tolist(),
        "text": [f"place {n}" for n in numbers],
        "flag": (numbers == values - 1).tolist(),
        "inputs": rng.normal(size=(rows, 6)).astype(np.float32).tolist(),
    }
    return Dataset.from_dict(columns)


def cases(folder: Path) -> dict[str, dict]:
    """Arguments of `GroupIndex.from_dataset`, or of `from_parquet` where there are files."""
    named = data(50).cast_column("label", ClassLabel(names=["wren", "gull", "owl", "kiwi"]))
    files = []
    for i, part in enumerate((data(50, seed=1), data(7, seed=2), data(31, 5, seed=3))):
        files.append(str(folder / f"{i}.parquet"))
        if not Path(files[-1]).exists():
            pq.write_table(part.with_format("arrow")[:], files[-1], row_group_size=9)
    reference = GroupIndex.from_dataset(data(40, 2), "label", "text")
    return {
        **{f"{n} rows": {"dataset": data(n), "attribute_column": "number"} for n in (1, 2, 3, 4, 50)},
        "text": {"dataset": data(50), "attribute_column": "text"},
        "product": {"dataset": data(50), "attribute_column": ["flag", "number"]},
        "no attribute": {"dataset": data(50)},
        "class names": {"dataset": named, "attribute_column": "flag"},
        "many values": {"dataset": data(2000, 700), "attribute_column": "number"},
        "shuffled": {"dataset": data(50).shuffle(seed=1), "attribute_column": "number"},
        "reference": {"dataset": data(50, 4), "attribute_column": "text", "reference": reference},
        "plain rows": {"dataset": Rows(data(50)), "attribute_column": "number"},
        "parquet": {"files": files, "attribute_column": ["text", "flag"]},
        "parquet, one": {"files": files[1], "attribute_column": "number"},
    }


def bad_cases(rank: int) -> dict[str, dict]:
    """Data that one process alone may find fault with."""
    null, late = data(50).to_dict(), data(50).to_dict()
    null["text"][47], late["label"][2] = None, -1
    return {
        "null": {"dataset": Dataset.from_dict(null), "attribute_column": "text"},
        "negative label": {"dataset": Dataset.from_dict(late), "attribute_column": "text"},
        "other lengths": {"dataset": data(50 + rank), "attribute_column": "text"},
        "no column": {"dataset": data(50), "attribute_column": "colour"},
    }


def build(case: dict, **settings) -> GroupIndex:
    make = GroupIndex.from_parquet if "files" in case else GroupIndex.from_dataset
    return make(**case, **settings)


def content(index: GroupIndex) -> dict:
    arrays = {name: getattr(index, name) for name in ("counts", "codes", "order")}
    return {
        "names": [list(index.label_names), [list(values) for values in index.attribute_values]],
        **{name: [str(array.dtype), array.tolist()] for name, array in arrays.items()},
    }


def run(folder: str) -> None:
    """Leave `RANK.json` in `folder`."""
    gerne_hf.reports.plots.plot_training = lambda *args: None
    state = accelerate.PartialState(cpu=True)
    seen = {name: content(build(case, in_shards=True)) for name, case in cases(Path(folder)).items()}
    for name, case in bad_cases(state.process_index).items():
        try:
            build(case, in_shards=True)
        except Exception as error:
            seen[name] = f"{type(error).__name__}: {error}"
    checks.SHARED_ROWS, join, joined = 20, Shards.join, []
    Shards.join = lambda self, codes, length: joined.append(length) or join(self, codes, length)
    settings = {"attribute_column": "text", "empty_groups": "ignore", "use_cpu": True, "max_steps": 1}
    seen["trainer"] = content(trainer(f"{folder}/run", mlp(num_labels=3), data(60, 2), **settings).groups)
    seen["joined"] = joined
    (Path(folder) / f"{state.process_index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    cases(Path(sys.argv[1]))
    accelerate.debug_launcher(run, (sys.argv[1],), num_processes=PROCESSES)
