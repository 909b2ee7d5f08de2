"""Repositories on the Hub: how one is made, where a data set came from, and errors that say what to do.

Imports [`failures`](gerne_hf.hub.failures). Uploads in the background: [`pushes`](gerne_hf.hub.pushes).
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from .failures import advice, is_of_the_hub

TYPES = {"model": "model", "dataset": "data set", "space": "Space"}
"""The Hub's types of repositories, and what messages call them."""

_FROM_THE_HUB = (".gitattributes", "README.md")
"""Files that the Hub itself may put into a new repository."""


def make_repository(
    repo_id: str,
    repo_type: str,
    own_file: str,
    contents: str,
    token: str | None = None,
    private: bool | None = None,
    space_sdk: str | None = None,
) -> str:
    """Make a repository on the Hub, or take the one of this name if it is empty or already holds the same contents.

    Args:
        repo_id (`str`): `NAME`, for a repository of the token's owner, or `OWNER/NAME`.
        repo_type (`str`): `"dataset"` or `"space"`.
        own_file (`str`): a file that every repository with these contents has.
        contents (`str`): what messages call the contents.
        token (`str`, *optional*): a token with write access; the one that is logged in if not given.
        private (`bool`, *optional*): whether a new repository is private; the owner's default if not given.
        space_sdk (`str`, *optional*): the kind of a Space, such as `"gradio"`.

    Returns:
        `str`: `OWNER/NAME`.

    Raises:
        HfHubHTTPError: if there is no token, or it has not the rights; a note says what to do.
        ValueError: if the repository holds something else; names what it holds. Nothing is changed then.
    """
    api = HfApi(token=token)
    with advised(f"The {TYPES[repo_type]} {repo_id!r} cannot be made or written to."):
        made = api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=space_sdk, exist_ok=True)
        info = api.repo_info(made.repo_id, repo_type=repo_type)
    files = [file.rfilename for file in getattr(info, "siblings", None) or []]
    sdk = getattr(info, "sdk", None)
    other = [file for file in files if file not in _FROM_THE_HUB] if own_file not in files else []
    if other or sdk not in (None, space_sdk):
        found = f"holds {', '.join(other[:5])}{', ...' if len(other) > 5 else ''}" if other else f"is made for {sdk}"
        raise ValueError(
            f"the {TYPES[repo_type]} {made.repo_id} on the Hub {found}, which is no {contents}; nothing was "
            "changed. Choose another id"
        )
    return made.repo_id


def other_types(repo_id: str, repo_type: str, token: str | None = None) -> list[str]:
    """Return the types of the repositories that have this name but another type.

    Args:
        repo_id (`str`): `OWNER/NAME`.
        repo_type (`str`): the type that is left out; a key of `TYPES`.
        token (`str`, *optional*): a token with read access, for private repositories.

    Returns:
        `list[str]`: as messages call them ("data set"), in the order of `TYPES`.
    """
    api = HfApi(token=token)
    return [name for kind, name in TYPES.items() if kind != repo_type and api.repo_exists(repo_id, repo_type=kind)]


RECIPE_OPTIONS = ("dataset_name", "model_name_or_path")
"""Options of the recipes, which can also be run with --demo."""


def found_by(option: str, name: str) -> AbstractContextManager[None]:
    """Add to errors of the Hub and the network, while data or a model is loaded, which option chose it.

    Args:
        option (`str`): the option of a recipe or of `gerne-hf`, without its dashes. For an option of a recipe the
            note advises --demo too.
        name (`str`): the value it has.

    Returns:
        `AbstractContextManager`: loading is done inside its `with` block.

    Example:

    ```python
    >>> try:
    ...     with found_by("model", "no/such-model"):
    ...         raise OSError("no network")
    ... except OSError as error:
    ...     print(error.__notes__[0].split(".")[0])
    --model 'no/such-model' is a folder or an id on the Hub

    ```
    """
    demo = ", or run --demo, which needs neither" if option in RECIPE_OPTIONS else ""
    return explained(
        f"--{option} {name!r} is a folder or an id on the Hub. Without a network give a folder that has it{demo}."
    )


@contextmanager
def explained(note: str) -> Iterator[None]:
    """Add a note to errors of the Hub, the network and the disk that leave the `with` block.

    Args:
        note (`str`): full sentences that say what to do; Python shows them below the error's message.
    """
    try:
        yield
    except (HfHubHTTPError, OSError) as error:
        error.add_note(note)
        raise


@contextmanager
def advised(note: str) -> Iterator[None]:
    """Add a note to errors of the Hub and the network that leave the `with` block, and what to do by their reason.

    Args:
        note (`str`): full sentences that say what has failed.
    """
    try:
        yield
    except Exception as error:
        if is_of_the_hub(error):
            error.add_note(f"{note} {advice(error)}.")
        raise


_CACHED = re.compile(
    r"[/\\](?P<owner>[\w.-]+?)___(?P<name>[\w.-]+)[/\\][^/\\]+[/\\][\d.]+[/\\](?P<revision>[0-9a-f]{40})[/\\]"
)
"""Where `datasets` keeps the files of a data set of the Hub: OWNER___NAME/CONFIGURATION/VERSION/COMMIT/."""


def hub_origin(dataset: Any) -> tuple[str, str] | None:
    """Return the id on the Hub and the commit of the data set that rows were loaded from.

    Args:
        dataset: a `datasets.Dataset`, or a data set whose loader has set its attribute `origin` to such a pair.

    Returns:
        `tuple[str, str]`: `OWNER/NAME` and the commit, 40 hexadecimal digits; None where they cannot be known, as for
        rows that were made in memory or come from several data sets.
    """
    if not isinstance(dataset, datasets.Dataset):
        return getattr(dataset, "origin", None)
    found = {match.groups() for file in dataset.cache_files if (match := _CACHED.search(file["filename"]))}
    if len(found) != 1:
        return None
    [(owner, name, revision)] = found
    return f"{owner}/{name}", revision
