"""Repositories on the Hub: made, or refused where they hold something else, and errors that say what to do."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

RIGHTS = "It needs a token with write access: set HF_TOKEN, or run `hf auth login`"

TYPES = {"model": "model", "dataset": "data set", "space": "Space"}
"""What the Hub's types of repositories are called."""

_FROM_THE_HUB = (".gitattributes", "README.md")
"""Files that a repository may have from the start."""


def make_repository(
    repo_id: str,
    repo_type: str,
    own_file: str,
    contents: str,
    token: str | None = None,
    private: bool | None = None,
    space_sdk: str | None = None,
) -> str:
    """Make a repository, unless there is one that is empty or holds the same sort of contents.

    Args:
        repo_id (`str`): `NAME` or `OWNER/NAME`.
        repo_type (`str`): `"dataset"` or `"space"`.
        own_file (`str`): the file by which these contents are known.
        contents (`str`): what they are called in messages.
        token (`str`, *optional*), private (`bool`, *optional*), space_sdk (`str`, *optional*): as
            [`~huggingface_hub.HfApi.create_repo`].

    Returns:
        `str`: `OWNER/NAME`.

    Raises:
        HfHubHTTPError: without a token or the rights; a note says what to do.
        ValueError: if the repository holds something else, naming it; nothing is changed.
    """
    api = HfApi(token=token)
    with explained(
        f"The {TYPES[repo_type]} {repo_id!r} cannot be made or written to. {RIGHTS}; or choose another id."
    ):
        made = api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=space_sdk, exist_ok=True)
        info = api.repo_info(made.repo_id, repo_type=repo_type)
    files = [file.rfilename for file in info.siblings or []]
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
    """The types of other repositories under a name: each type has names of its own."""
    api = HfApi(token=token)
    return [name for kind, name in TYPES.items() if kind != repo_type and api.repo_exists(repo_id, repo_type=kind)]


def found_by(option: str, name: str) -> AbstractContextManager:
    """While data or a model is loaded: add to errors of the Hub, and of the network, which argument chose it.

    Args:
        option (`str`): the argument of the recipes.
        name (`str`): its value.
    """
    return explained(
        f"--{option} {name!r} is a folder or an id on the Hub. Without a network give a folder that has it, or run "
        "--demo, which needs neither."
    )


@contextmanager
def explained(note: str) -> Iterator[None]:
    """Add a note to errors of the Hub."""
    try:
        yield
    except (HfHubHTTPError, OSError) as error:
        error.add_note(note)
        raise


_CACHED = re.compile(
    r"[/\\](?P<owner>[\w.-]+?)___(?P<name>[\w.-]+)[/\\][^/\\]+[/\\][\d.]+[/\\](?P<revision>[0-9a-f]{40})[/\\]"
)
"""Where `datasets` keeps what it has loaded from the Hub: OWNER___NAME/CONFIGURATION/VERSION/COMMIT/."""


def hub_origin(dataset: Any) -> tuple[str, str] | None:
    """Hub id and commit of the data set that rows were loaded from; None where this cannot be known.

    Args:
        dataset: a `datasets.Dataset`, or a data set whose loader has set its `origin`.
    """
    if not isinstance(dataset, datasets.Dataset):
        return getattr(dataset, "origin", None)
    found = {match.groups() for file in dataset.cache_files if (match := _CACHED.search(file["filename"]))}
    if len(found) != 1:
        return None
    [(owner, name, revision)] = found
    return f"{owner}/{name}", revision
