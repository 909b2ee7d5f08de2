"""What a fingerprint of all rows costs: a million rows of text, and 100,000 images, in order and shuffled.

The data lie in Arrow files, as `datasets` leaves them, and are in the page cache. The bytes of the "images" are
random, so an attempt to decode one would fail.

python benchmarks/fingerprints.py
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, Value
from datasets.utils.logging import disable_progress_bar
from machine import describe_machine

from gerne_hf.groups import fingerprint

BOUND = 1.0  # seconds
WORDS = [f"word{number}" for number in range(997)]


def texts(rows: int) -> Iterator[dict[str, Any]]:
    """Rows of 5 to 40 words, 150 bytes on average."""
    rng = np.random.default_rng(0)
    words = rng.integers(len(WORDS), size=(1000, 40))
    sentences = [" ".join(WORDS[w] for w in line[: 5 + i % 36]) for i, line in enumerate(words)]
    for number, label in enumerate(rng.integers(2, size=rows).tolist()):
        text = f"{number} {sentences[number % 1000]}"
        yield {"text": text, "label": label, "place": "land" if number % 3 else "sea"}


def pictures(rows: int, size: int) -> Iterator[dict[str, Any]]:
    """Rows whose images are random bytes."""
    rng = np.random.default_rng(0)
    pool = rng.bytes(size + rows)
    for number in range(rows):
        yield {"image": {"bytes": pool[number : number + size], "path": f"{number}.jpg"}, "label": number % 2}


def files(rows: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows whose images are files, of a byte or more."""
    folder.mkdir()
    for number in range(rows):
        path = folder / f"{number:06}.jpg"
        path.write_bytes(b"x" * (1 + number % 7))
        yield {"image": {"bytes": None, "path": str(path)}, "label": number % 2}


def seconds(dataset: Dataset, repeats: int) -> float:
    """The shortest time of several."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        fingerprint(dataset, "label")
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of text")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--image_bytes", type=int, default=20_000, help="bytes of an image as stored")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    disable_progress_bar()
    print(describe_machine())
    print("| data | bytes, MB | in order, s | shuffled, s | bound, s |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        kinds = {
            f"{arguments.rows:,} rows of text": (texts, {"rows": arguments.rows}, Value("string"), "text"),
            f"{arguments.images:,} images in the rows": (
                *(pictures, {"rows": arguments.images, "size": arguments.image_bytes}, Image(), "image"),
            ),
            f"{arguments.images:,} images in files": (
                *(files, {"rows": arguments.images, "folder": Path(folder, "files")}, Image(), "image"),
            ),
        }
        worst = 0.0
        for name, (make, given, kind, column) in kinds.items():
            own = {column: kind, "label": Value("int64")} | ({"place": Value("string")} if column == "text" else {})
            data = Dataset.from_generator(make, features=Features(own), cache_dir=f"{folder}/{name}", gen_kwargs=given)
            ordered, shuffled = (seconds(d, arguments.repeats) for d in (data, data.shuffle(seed=0)))
            worst = max(worst, ordered, shuffled)
            print(
                f"| {name} | {data.data.nbytes / 1e6:,.0f} | {ordered:.2f} | {shuffled:.2f} | {BOUND:g} |", flush=True
            )
    print(f"bound of {BOUND:g} s: {'held' if worst <= BOUND else 'missed'}")
    raise SystemExit(worst > BOUND)


if __name__ == "__main__":
    main()
