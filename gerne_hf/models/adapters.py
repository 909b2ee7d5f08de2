"""Adapters of PEFT: the model that one adapts, and files that do not tell in which folder that lies.

Imports nothing of this package. The trainer that saves them:
[`PublishingTrainer`](gerne_hf.training.publishing_trainer.PublishingTrainer).
"""

import json
import os
from typing import Any

CONFIG_FILE = "adapter_config.json"
_KEY = "base_model_name_or_path"


def base_of_adapter(model: Any) -> str | None:
    """Return the Hub id or the folder of the model that an adapter adapts, or None if it was loaded from nowhere.

    Args:
        model (`peft.PeftModel`): the adapter around its model.
    """
    return getattr(getattr(model, "active_peft_config", None), _KEY, None)


def hide_base_folder(directory: str) -> bool:
    """Take the place of the base model out of a saved adapter, if it is a folder: others have no such folder.

    Whoever loads the adapter then names the base model. PEFT's own card, which tells the folder too, is removed.

    Args:
        directory (`str`): where an adapter was saved; nothing happens in a folder without one.

    Returns:
        `bool`: whether anything was changed.
    """
    path = os.path.join(directory, CONFIG_FILE)
    if not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    base = config.get(_KEY)
    if not base or not (os.path.exists(base) or os.path.isabs(base) or base.startswith(("~", "."))):
        return False
    card = os.path.join(directory, "README.md")
    if os.path.isfile(card):
        with open(card, encoding="utf-8") as file:
            told = base in file.read()
        if told:
            os.remove(card)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**config, _KEY: None}, file, indent=2, sort_keys=True)
    return True
