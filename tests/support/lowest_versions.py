"""Print the lowest supported versions of the dependencies as constraints for pip; `make test-min` installs them.

    python tests/support/lowest_versions.py pyproject.toml [left out ...]

Read off the lower bounds in pyproject.toml, so that the two cannot disagree; a bound must be a version that exists.
"""

import re
import sys
import tomllib
from collections.abc import Sequence


def lowest_versions(text: str, left_out: Sequence[str] = ()) -> list[str]:
    """`name==version` for each dependency with a lower bound.

    Args:
        text (`str`): of a pyproject.toml.
        left_out (`Sequence[str]`): packages that pip may choose a version of, such as torch, whose oldest version
            needs a build that not every machine has; extras whose name is given here are left out whole.
    """
    project = tomllib.loads(text)["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in left_out]
    found = {}
    for line in [*project["dependencies"], *(line for lines in extras for line in lines)]:
        match = re.fullmatch(r"([\w.-]+)\s*>=\s*([\w.]+).*", line)
        if match and match[1] not in left_out:
            found[match[1]] = match[2]
    return [f"{name}=={version}" for name, version in found.items()]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print("\n".join(lowest_versions(file.read(), sys.argv[2:])))
