"""`gerne-hf train` and `gerne-hf compare`: the recipes, from a clone or from the installed package.

Imports `utils/` alone. A recipe is a script of its own, which `accelerate launch` starts.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.plain_errors import PLAIN_ERRORS

PACKAGE = Path(__file__).parent.parent
FOLDERS = PACKAGE.parent / "recipes", PACKAGE / "recipe_scripts"
"""Where the scripts are: in a clone, and in the installed package, into which they are copied when it is built."""

COMPARED = "erm,class_balanced,resampling,group_weighted_loss,group_dro,dfr,jtt"
"""Methods that `gerne-hf compare` trains beside the main one unless it is told others."""


def recipes_folder() -> Path:
    """Return the folder of the recipes.

    Raises:
        ValueError: if there is none, as in an installation that was made by hand.
    """
    for folder in FOLDERS:
        if (folder / "configs").is_dir() and (folder / "text_classification.py").is_file():
            return folder
    raise ValueError("this installation has no recipes. Install the package anew, or work in a clone")


def recipe_names() -> list[str]:
    """Return the names of the recipes that can be trained."""
    return sorted(path.stem for path in recipes_folder().glob("*.py"))


def run_recipe_script(recipe: str, arguments: Sequence[str], num_processes: int | None = None) -> int:
    """Run a recipe by `accelerate launch` and wait for its end.

    Args:
        recipe (`str`): its name.
        arguments (`Sequence[str]`): its arguments.
        num_processes (`int`, *optional*): number of processes; as `accelerate config` says if not given.

    Returns:
        `int`: its exit status.

    Raises:
        ValueError: for a recipe that does not exist, and no positive number of processes.
    """
    names = recipe_names()
    if recipe in ("", "-h", "--help"):
        print(
            f"gerne-hf train RECIPE [--num_processes N] [arguments of the recipe]\n\nRecipes: {', '.join(names)}.\n"
            "gerne-hf train RECIPE --help lists the arguments of one."
        )
        return 0
    name = Path(recipe).stem if recipe.endswith(".py") else recipe
    if name not in names:
        raise ValueError(f"there is no recipe {recipe!r}; there are {', '.join(names)}")
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"num_processes must be at least 1; found {num_processes}")
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *launch_options(num_processes)]
    environment = {**os.environ, PLAIN_ERRORS: "1"}
    command = [*launch, str(recipes_folder() / f"{name}.py"), *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def launch_options(num_processes: int | None) -> list[str]:
    """Return the options of `accelerate launch`: where `accelerate config` has written none, the plainest ones.

    Args:
        num_processes (`int`, *optional*): number of processes; one for each GPU if not given, or what
            `accelerate config` has written.
    """
    from accelerate.commands.config.config_args import default_config_file

    options = []
    if not os.path.isfile(default_config_file):
        import torch

        options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        num_processes = num_processes or max(1, torch.cuda.device_count())
    if num_processes is not None:
        options += ["--num_processes", str(num_processes)]
        options += ["--multi_gpu"] if num_processes > 1 and _has_gpus(num_processes) else []
    return options if num_processes is not None and num_processes > 1 else [*options, "--quiet"]


def _has_gpus(count: int) -> bool:
    """Return whether the machine has so many GPUs."""
    import torch

    return torch.cuda.device_count() >= count


def compare_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a recipe's arguments with `--compare` of all methods, unless they name some.

    Args:
        arguments (`Sequence[str]`): the arguments.

    Example:

    ```python
    >>> compare_arguments(["--demo", "--compare", "erm"])
    ['--demo', '--compare', 'erm']

    ```
    """
    if any(argument.split("=")[0] == "--compare" for argument in arguments):
        return list(arguments)
    return [*arguments, "--compare", COMPARED]
