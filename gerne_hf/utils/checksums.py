"""Checksums of files: a flipped bit is found before anything is made of it.

Imports nothing of this package and no torch. Who writes and compares them: [`seals`](gerne_hf.checkpoints.seals) for
checkpoints, [`scores`](gerne_hf.pseudo_attributes.scores) for scores of biased models.
"""

import json
from typing import Any

import xxhash

_PIECE = 1 << 20


def checksum(path: str) -> str:
    """Return the checksum of a file's content: XXH3 with 128 bits, of the library that `datasets` hashes with.

    It finds damage, not forgery. Its cost is that of reading the file: about 0.25 s for each GB that the system still
    holds in memory, as it does right after the file was written.

    Args:
        path (`str`): the file.

    Returns:
        `str`: 32 hexadecimal digits.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "weights.bin").write_bytes(b"12345")
    ...     checksum(f"{folder}/weights.bin")
    '4af3da69f61e14cf26f4c14b6b6bfdb4'

    ```
    """
    digest, piece = xxhash.xxh3_128(), memoryview(bytearray(_PIECE))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(piece):
            digest.update(piece[:size])
    return digest.hexdigest()


def checksum_of_json(value: Any) -> str:
    """Return the checksum of a value that JSON holds; the order of keys does not matter.

    Args:
        value: dictionaries, lists, texts, numbers, booleans and None, nested, as JSON gives them back.

    Returns:
        `str`: 32 hexadecimal digits.

    Example:

    ```python
    >>> checksum_of_json({"a": 1, "b": None}) == checksum_of_json({"b": None, "a": 1})
    True

    ```
    """
    return xxhash.xxh3_128(json.dumps(value, sort_keys=True).encode()).hexdigest()
