"""What test_streaming_two_processes.py runs on two processes: trains on streams, resumes, writes what each saw."""

import json
import sys
from pathlib import Path

from helpers import mlp, table, trainer, watch_batches

from gerne_hf.streaming import GroupPartitions, ReservoirStream
from gerne_hf.utils.distributed import leave_processes_at_exit

SETTINGS = dict(max_steps=8, save_strategy="steps", save_steps=5)


def stream(kind, folder):
    if kind == "partitions":
        return GroupPartitions.load(str(Path(folder, "partition")), 4000)
    return ReservoirStream(table().to_iterable_dataset(num_shards=3), 4, attribute_column="place")


def rows_of(subject, checkpoint=None):
    """Row numbers of each batch that this process trains on, and the sum of the weights after."""
    seen = watch_batches(subject)
    subject.train(resume_from_checkpoint=checkpoint)
    total = sum(float(p.double().sum()) for p in subject.model.parameters())
    return [batch["row"].tolist() for batch in seen], total


def main(folder: str) -> None:
    """Leave `rank0.json` and `rank1.json` in `folder`."""
    found = {}
    for kind in ("partitions", "reservoir"):
        out = Path(folder, kind)
        whole = rows_of(trainer(out, mlp(dropout=0.3), stream(kind, folder), **SETTINGS))
        subject = trainer(out, mlp(dropout=0.3), stream(kind, folder), **SETTINGS)
        found[kind] = [whole, rows_of(subject, str(out / "checkpoint-5"))]
    Path(folder, f"rank{subject.args.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    leave_processes_at_exit()
    main(sys.argv[1])
