"""Arguments of the recipes: a YAML file of settings, which the command line overrides."""

import argparse
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser

from ..baselines.config import BaselineConfig
from ..comparison.methods import check_methods, main_method
from ..config import GerneConfig
from ..data.splits import SPLITS
from ..utils.distributed import leave_processes_at_exit


@dataclass
class RecipeArguments:
    """What every recipe takes besides the fields of [`GerneConfig`].

    Args:
        config (`str`, *optional*): YAML file of settings; the recipe's own in `recipes/configs` if not given.
        demo (`bool`, defaults to `False`): train on small embedded data, without a network.
        dataset_name (`str`, *optional*): Hub id or folder; the recipe's data set on the Hub if not given.
        compare (`str`, defaults to `"erm"`): methods trained beside the main one, for the table, separated by commas
            ([`METHODS`](gerne_hf.methods.METHODS)); "none" for no other.
        seeds (`str`, *optional*): a run of each method for each of these, separated by commas; `seed` if not given.
        tune (`int`, defaults to `0`): trials of a search for c, beta and (with pseudo-attributes) t before the final
            runs, selected on the validation set.
        method_settings (`str` or `dict`, *optional*): by method, settings of its own: as JSON on the command line, as
            a mapping in the YAML file.
    """

    config: str | None = field(default=None, metadata={"help": "YAML file of settings; the command line wins."})
    demo: bool = field(default=False, metadata={"help": "Train on small embedded data, without a network."})
    dataset_name: str | None = field(default=None, metadata={"help": "Hub id or folder of the data set."})
    compare: str = field(default="erm", metadata={"help": "Methods trained beside the main one: erm,resampling."})
    seeds: str | None = field(default=None, metadata={"help": "Seeds of the runs, such as 0,1,2."})

    tune: int = field(default=0, metadata={"help": "Trials of a search on the validation set before the final runs."})
    method_settings: str | None = field(
        default=None, metadata={"help": 'Settings of single methods as JSON: {"resampling": {"learning_rate": 0.1}}.'}
    )

    def methods(self, main: str) -> list[str]:
        """The methods to train, the main one last."""
        others = [name for name in _parts(self.compare) if name not in ("none", main)]
        return [*dict.fromkeys(others), main]

    def settings_by_method(self) -> dict[str, dict[str, Any]]:
        """`method_settings` as a dictionary of dictionaries.

        Raises:
            ValueError: if it is not one.
        """
        value = self.method_settings or {}
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError as error:
            raise ValueError(f"method_settings is no JSON: {error}") from None
        if not isinstance(value, dict) or not all(isinstance(own, dict) for own in value.values()):
            raise ValueError(
                f"method_settings must be settings by method, {{method: {{field: value}}}}; found {value}"
            )
        return {name: dict(own) for name, own in value.items()}

    def seed_list(self, seed: int) -> list[int]:
        """The seeds to run.

        Raises:
            ValueError: unless they are whole numbers that can be seeds, each given once.
        """
        if self.seeds is None:
            return [seed]
        try:
            seeds = [int(part) for part in _parts(self.seeds)]
        except ValueError:
            seeds = []
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed <= _LAST_SEED for seed in seeds):
            raise ValueError(
                f"seeds must be whole numbers from 0 to {_LAST_SEED}, each given once and parted by commas, such as "
                f"0,1,2; found {self.seeds!r}"
            )
        return seeds


@dataclass
class ImageArguments(RecipeArguments):
    """What image recipes take besides [`RecipeArguments`].

    Args:
        model_name_or_path (`str`): the backbone.
        image_size (`int`, *optional*): height and width of the images in pixels; the backbone's own if not given.
        momentum (`float`, *optional*): that of SGD; the optimizer is the Trainer's (`--optim`) if not given.
        freeze_batch_norm (`bool`, defaults to `False`): keep the statistics of BatchNorm layers.
        augment (`bool`, defaults to `True`): random crops and mirrored images in training.
        skip_undecodable (`bool`, defaults to `False`): drop rows whose image cannot be decoded.
    """

    model_name_or_path: str = field(
        default="timm/resnet50.tv_in1k", metadata={"help": "Backbone: folder or Hub id, of Transformers or timm."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width of the images in pixels; the backbone's own if not given."}
    )
    momentum: float | None = field(default=None, metadata={"help": "Momentum of SGD; --optim decides if not given."})
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep the statistics of BatchNorm layers."})
    augment: bool = field(default=True, metadata={"help": "Random crops and mirrored images in training."})
    skip_undecodable: bool = field(default=False, metadata={"help": "Drop rows whose image cannot be decoded."})


@dataclass
class TextArguments(RecipeArguments):
    """What text recipes take besides [`RecipeArguments`].

    Args:
        model_name_or_path (`str`): the backbone.
        max_length (`int`, *optional*): tokens of a row; what the tokenizer says that the model takes if not given.
    """

    model_name_or_path: str = field(default="bert-base-uncased", metadata={"help": "Backbone: Hub id or folder."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; longer texts are cut."})


@dataclass
class DatasetArguments(RecipeArguments):
    """What recipes for any data set take besides [`RecipeArguments`].

    Args:
        dataset_config (`str`, *optional*): configuration of the data set on the Hub.
        train_split, validation_split, test_split (`str`, *optional*): where they have unusual names.
    """

    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the data set on the Hub."})
    train_split: str | None = field(default=None, metadata={"help": "Name of the training split."})
    validation_split: str | None = field(default=None, metadata={"help": "Name of the validation split."})
    test_split: str | None = field(default=None, metadata={"help": "Name of the test split."})

    @property
    def source(self) -> dict[str, str | None]:
        """The settings that [`prepare_splits`] takes."""
        chosen = {key: getattr(self, f"{key}_split") for key in SPLITS}
        return {"config": self.dataset_config, **chosen}


def require_settings(arguments: DatasetArguments, config: GerneConfig) -> None:
    """Raise a `SystemExit` that tells what to add, unless the data set and a way to its groups are named."""
    if arguments.demo:
        return
    if not arguments.dataset_name:
        raise SystemExit("--dataset_name is needed: a Hub id, a folder, a file, or a folder of save_to_disk")
    if not config.attribute_columns and not config.pseudo_attributes and config.plan != "erm":
        raise SystemExit(
            "--attribute_column COLUMN (or several) is needed, or --pseudo_attributes true --threshold T where no "
            "attribute is known in training"
        )


def _parts(value: Any) -> list[str]:
    """The parts of "a,b", or of a list in a settings file."""
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return [text for text in (str(part).strip() for part in parts) if text]


Arguments = TypeVar("Arguments", bound=RecipeArguments)

_LAST_SEED = 2**32 - 1
"""NumPy's bound."""


def parse_arguments(
    arguments_class: type[Arguments], recipe: str, argv: list[str] | None = None
) -> tuple[Arguments, BaselineConfig]:
    """The arguments of a recipe: the command line over `--config` (or the recipe's own file) over the defaults.

    Args:
        arguments_class (`type`): the recipe's dataclass.
        recipe (`str`): path of the recipe's file; its settings lie in `configs/NAME.yaml` beside it, those of `--demo`
            in `configs/NAME_demo.yaml`.
        argv (`list[str]`, *optional*): the command line; `sys.argv[1:]` if not given.

    Raises:
        SystemExit: for an unknown argument or setting, naming the nearest known one; for a settings file that is none;
            and for methods, seeds or a number of trials that cannot be.
    """
    description = f"Recipe {Path(recipe).stem}."
    parser = HfArgumentParser((arguments_class, BaselineConfig), description=description, allow_abbrev=False)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--demo", nargs="?", const="true", default="false")
    early, _ = first.parse_known_args(argv)
    demo = early.demo.lower() in ("true", "1", "yes", "y", "t")
    name = f"{Path(recipe).stem}{'_demo' if demo else ''}.yaml"
    path = Path(early.config) if early.config else Path(recipe).parent / "configs" / name
    if not path.is_file():
        parser.error(f"no such settings file: {path}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:
        parser.error(f"{path} is no YAML: {' '.join(str(error).split())}")
    if not isinstance(settings, dict):
        parser.error(f"{path} must hold settings, one a line as NAME: VALUE; found a {type(settings).__name__}")
    known = [action.dest for action in parser._actions]
    for key in settings:
        if key not in known:
            parser.error(f"{path} sets {key!r}, which is no argument{_nearest(str(key), known)}")
    parser.set_defaults(**settings)
    arguments, config, *_, rest = parser.parse_args_into_dataclasses(args=argv, return_remaining_strings=True)
    if rest:
        parser.error(f"unknown argument {rest[0]}{_nearest(rest[0].lstrip('-').split('=')[0], known)}")
    if not isinstance(arguments.tune, int) or arguments.tune < 0:
        parser.error(f"tune, the number of trials, must be a whole number, 0 for no search; found {arguments.tune!r}")
    try:  # before any data are read
        arguments.seed_list(config.seed)
        check_methods(arguments.methods(main_method(config)), arguments.settings_by_method(), config)
    except ValueError as error:
        parser.error(str(error))
    leave_processes_at_exit()
    return arguments, config


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
