"""Where things lie in the repository, and what PYTHONPATH processes of their own need to find them."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
SUPPORT = Path(__file__).parent
"""The helpers of the tests, and the scripts that tests start as processes."""


def python_path(*more: Path) -> str:
    """Return a PYTHONPATH for a new process: the helpers, the package, then what this process has in its own.

    Args:
        more (`Path`): further folders, searched first.
    """
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([*map(str, (*more, SUPPORT, ROOT)), *([given] if given else [])])
