"""Which names are ids on the Hub, and which may be places of this machine, which nobody else needs to know.

Imports nothing of this package. Cards and recipes name models and data sets by these ids.
"""

import os

from huggingface_hub.utils import HFValidationError, validate_repo_id


def hub_id(name: str | None, with_owner: bool = False) -> str | None:
    """Return a name if it can only be an id on the Hub; None if it may be a path, an address or nothing.

    Args:
        name (`str`, *optional*): what a model or a data set was loaded from.
        with_owner (`bool`, *optional*, defaults to `False`): whether it must be `OWNER/NAME`, as a name alone may be
            a folder that is not here.

    Example:

    ```python
    >>> hub_id("nyu-mll/multi_nli"), hub_id("bert-base-uncased"), hub_id("bert-base-uncased", with_owner=True)
    ('nyu-mll/multi_nli', 'bert-base-uncased', None)
    >>> hub_id("./data/mine"), hub_id("https://me:secret@host/data"), hub_id(None)
    (None, None, None)

    ```
    """
    if not name or os.path.exists(name) or (with_owner and (name.count("/") != 1 or name[0] in "./~")):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:  # a folder that is gone or of another machine; an address, with a password perhaps
        return None
    return name
