"""What test_failing.py runs on two processes: one of them fails."""

import os
import sys
import time
from pathlib import Path

from helpers import Rows, mlp, table, trainer


class BrokenOnOne(Rows):
    """Rows of which the process with rank 1 cannot read some."""

    def __getitem__(self, key):
        if not isinstance(key, str) and os.environ["RANK"] == "1" and int(key) > 40:
            raise OSError(f"row {int(key)} cannot be read")
        return super().__getitem__(key)


def main(folder: str, where: str) -> None:
    """Fail, and leave what each process raised and after how many seconds in `RANK.txt`."""
    rank, begun = os.environ["RANK"], time.monotonic()
    out = Path(folder) / "run"
    if where == "construction":  # process 0 alone makes the folder
        out = Path(__file__) / "run"
    try:
        trainer(out, mlp(), BrokenOnOne(table()) if where == "row" else table(), max_steps=1_000).train()
    except Exception as error:
        text = f"{time.monotonic() - begun:.1f}\n{type(error).__name__}: {error}"
        (Path(folder) / f"{rank}.txt").write_text(text)
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
