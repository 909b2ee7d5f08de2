"""The arguments of the recipes: dataclasses, and how they are read from a YAML file and the command line.

Imports `data`, `config.py`, `baselines` and `comparison`. `run.py` does what the arguments say.
"""

import argparse
import difflib
import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import DataClassType

from ..baselines.config import BaselineConfig
from ..comparison.equal_tuning import check_spaces
from ..comparison.methods import check_methods, main_method
from ..config import GerneConfig
from ..data.splits import SPLITS
from ..utils.crops import CROPS
from ..utils.distributed import fitting_workers, leave_processes_at_exit
from ..utils.harmless import declare
from ..utils.plain_errors import show_plain_errors

_NOT_IN_RESULTS = ("features_dir", "workers_given")
"""Arguments of recipes that change no result."""


@dataclass
class RecipeArguments:
    """Arguments that every recipe takes, besides the fields of [`GerneConfig`] and [`BaselineConfig`].

    Args:
        config (`str`, *optional*): YAML file of settings; the recipe's own file in `recipes/configs` if not given.
        demo (`bool`, *optional*, defaults to `False`): whether to train on small embedded data, without a network.
        dataset_name (`str`, *optional*): Hub id or folder; the recipe's data set on the Hub if not given.
        compare (`str`, *optional*, defaults to `"erm"`): methods to train besides the main one, separated by commas:
            names in [`METHODS`](gerne_hf.comparison.METHODS), or "none".
        seeds (`str`, *optional*): seeds, separated by commas; each method is trained with each of them. `seed` if not
            given.
        tune (`int`, *optional*, defaults to `0`): number of trials that each method has before the final runs, over
            its own space, such as c and beta of GERNE. Trials are compared on the validation set, and the first one is
            the settings that are given; with pseudo-attributes the second is class-balanced ERM.
        tune_learning_rate, tune_weight_decay (`bool`, *optional*, defaults to `False`): whether `tune` tries other
            learning rates and weight decays, too, of every method.
        method_settings (`str` or `dict`, *optional*): settings of single methods, by method: JSON on the command line,
            a mapping in the YAML file.
    """

    config: str | None = field(default=None, metadata={"help": "YAML file of settings; the command line wins."})
    demo: bool = field(default=False, metadata={"help": "Train on small embedded data, without a network."})
    dataset_name: str | None = field(default=None, metadata={"help": "Hub id or folder of the data set."})
    compare: str = field(default="erm", metadata={"help": "Methods trained beside the main one: erm,resampling."})
    seeds: str | None = field(default=None, metadata={"help": "Seeds of the runs, such as 0,1,2."})

    tune: int = field(default=0, metadata={"help": "Trials of each method on the validation set before all runs."})
    tune_learning_rate: bool = field(default=False, metadata={"help": "Let --tune try learning rates, too."})
    tune_weight_decay: bool = field(default=False, metadata={"help": "Let --tune try weight decays, too."})
    method_settings: str | None = field(
        default=None, metadata={"help": 'Settings of single methods as JSON: {"resampling": {"learning_rate": 0.1}}.'}
    )

    def methods(self, main: str) -> list[str]:
        """Return the names of the methods to train, the main one last.

        Args:
            main (`str`): name of the main method.

        Returns:
            `list[str]`: each name once.

        Example:

        ```python
        >>> RecipeArguments(compare="erm,resampling").methods("independent")
        ['erm', 'resampling', 'independent']

        ```
        """
        others = [name for name in _parts(self.compare) if name not in ("none", main)]
        return [*dict.fromkeys(others), main]

    def settings_by_method(self) -> dict[str, dict[str, Any]]:
        """Return `method_settings` as a dictionary.

        Returns:
            `dict[str, dict[str, Any]]`: fields of the config with their values, by method.

        Raises:
            ValueError: if `method_settings` is something else.

        Example:

        ```python
        >>> RecipeArguments(method_settings='{"erm": {"learning_rate": 0.1}}').settings_by_method()
        {'erm': {'learning_rate': 0.1}}

        ```
        """
        value: Any = self.method_settings or {}
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
        """Return the seeds to train with.

        Args:
            seed (`int`): the seed if `seeds` is not given.

        Returns:
            `list[int]`

        Raises:
            ValueError: unless `seeds` are whole numbers that can be seeds, each given once.

        Example:

        ```python
        >>> RecipeArguments(seeds="0,1,2").seed_list(seed=42)
        [0, 1, 2]

        ```
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

    def made_with(self) -> dict[str, Any]:
        """Return what results depend on besides the config and the methods: the data and the model of the recipe."""
        own = [one.name for one in fields(RecipeArguments) if one.name not in ("demo", "dataset_name")]
        return {name: value for name, value in vars(self).items() if name not in (*own, *_NOT_IN_RESULTS)}


@dataclass
class ImageArguments(RecipeArguments):
    """Arguments of image recipes, besides those of [`RecipeArguments`].

    Args:
        model_name_or_path (`str`, *optional*, defaults to `"timm/resnet50.tv_in1k"`): folder or Hub id of the
            backbone.
        image_size (`int`, *optional*): height and width of the images in pixels; the size that the backbone was
            trained with if not given.
        momentum (`float`, *optional*): momentum of SGD; if not given, the optimizer is the one that `--optim` names.
        freeze_batch_norm (`bool`, *optional*, defaults to `False`): whether to keep the pretrained statistics of
            BatchNorm layers.
        frozen_layers (`list[str]`, *optional*): names of modules of the backbone whose weights stay as they are, or
            "all_but_head". Where only the head is trained, the backbone's features are computed once for all epochs,
            methods and seeds, unless they change: with BatchNorm in training mode, dropout before the head, or
            augmented images.
        cache_features (`bool`, *optional*, defaults to `True`): whether features are computed once where they can be.
        features_dir (`str`, *optional*): folder in which features are kept, for other commands too; `_features` in
            `output_dir` if not given.
        crop (`str`, *optional*, defaults to `"none"`): how images are made square: "none" squeezes the whole image,
            "center" takes the largest square in the middle, "border" squeezes it and cuts an eighth off.
        augment (`bool`, *optional*, defaults to `True`): whether to crop and mirror training images at random.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.
    """

    model_name_or_path: str = field(
        default="timm/resnet50.tv_in1k", metadata={"help": "Backbone: folder or Hub id, of Transformers or timm."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width of the images in pixels; the backbone's own if not given."}
    )
    momentum: float | None = field(default=None, metadata={"help": "Momentum of SGD; --optim decides if not given."})
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep the statistics of BatchNorm layers."})
    frozen_layers: list[str] | None = field(
        default=None,
        metadata={"help": "Modules that are not trained; all_but_head: all but the last layer."},
    )
    cache_features: bool = field(
        default=True, metadata={"help": "Compute the features of a backbone once where all but the head is frozen."}
    )
    features_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of these features; _features in output_dir if not given."},
    )
    workers_given: bool = field(default=False, init=False)
    """Whether the command line or the settings file say `dataloader_num_workers`; set by [`parse_arguments`]."""
    crop: str = field(
        default="none",
        metadata={
            "help": "How images become squares: squeezed whole; the middle; squeezed with an eighth cut off.",
            "choices": list(CROPS),
        },
    )
    augment: bool = field(default=True, metadata={"help": "Random crops and mirrored images in training."})
    skip_undecodable: bool = field(default=False, metadata={"help": "Drop rows whose image cannot be decoded."})


@dataclass
class TextArguments(RecipeArguments):
    """Arguments of text recipes, besides those of [`RecipeArguments`].

    Args:
        model_name_or_path (`str`, *optional*, defaults to `"bert-base-uncased"`): folder or Hub id of the backbone.
        max_length (`int`, *optional*): most tokens of a row; the limit that the tokenizer states if not given.
        classifier_dropout (`float`, *optional*): probability of dropout before the head, in [0, 1); the backbone's own
            if not given.
    """

    model_name_or_path: str = field(default="bert-base-uncased", metadata={"help": "Backbone: Hub id or folder."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; longer texts are cut."})
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "Probability of dropout before the head; the backbone's own if not given."}
    )


@dataclass
class DatasetArguments(RecipeArguments):
    """Arguments of recipes for any data set, besides those of [`RecipeArguments`].

    Args:
        dataset_config (`str`, *optional*): configuration of the data set on the Hub.
        train_split, validation_split, test_split (`str`, *optional*): names of the splits in the data set, where they
            are not the usual ones.
        skip_unusable_rows (`bool`, *optional*, defaults to `False`): whether rows that lack a text, an image, a label
            or an attribute are left out and counted; without it they are refused.
    """

    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the data set on the Hub."})
    train_split: str | None = field(default=None, metadata={"help": "Name of the training split."})
    validation_split: str | None = field(default=None, metadata={"help": "Name of the validation split."})
    test_split: str | None = field(default=None, metadata={"help": "Name of the test split."})
    skip_unusable_rows: bool = field(default=False, metadata={"help": "Leave out rows that lack a value, and count."})

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of [`prepare_splits`] that say which rows: configuration, splits, and what is left out."""
        chosen = {key: getattr(self, f"{key}_split") for key in SPLITS}
        return {"config": self.dataset_config, "skip_unusable_rows": self.skip_unusable_rows, **chosen}


def require_settings(arguments: DatasetArguments, config: GerneConfig) -> None:
    """End the program with a message, unless the arguments name a data set and say what its groups are made of.

    Args:
        arguments ([`DatasetArguments`]): the recipe's arguments; a demo needs none of them.
        config ([`GerneConfig`]): the recipe's settings.

    Raises:
        SystemExit: if `--dataset_name`, or `--attribute_column` and `--pseudo_attributes`, are missing; the message
            says what to add.
    """
    if arguments.demo:
        return
    if not arguments.dataset_name:
        raise SystemExit("--dataset_name is needed: a Hub id, a folder, a file, or a folder of save_to_disk")
    if not config.attribute_columns and not config.pseudo_attributes and config.plan != "erm":
        raise SystemExit(
            "--attribute_column COLUMN (or several) is needed, or --pseudo_attributes true where no attribute is "
            "known in training"
        )


def _parts(value: Any) -> list[str]:
    """Return the parts of a text such as "a,b", or of a list from a settings file, without spaces and empty parts."""
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return [text for text in (str(part).strip() for part in parts) if text]


Arguments = TypeVar("Arguments", bound=RecipeArguments)

_LAST_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""


def parse_arguments(
    arguments_class: type[Arguments], recipe: str, argv: list[str] | None = None
) -> tuple[Arguments, BaselineConfig]:
    """Read the arguments of a recipe from a YAML file and the command line.

    The command line wins over the file, and the file over the defaults. The file is the one that `--config` names,
    else `configs/NAME.yaml` beside the recipe NAME, and with `--demo` `configs/NAME_demo.yaml`.

    Args:
        arguments_class (`type`): the recipe's dataclass of arguments.
        recipe (`str`): path of the recipe's file.
        argv (`list[str]`, *optional*): the command line; `sys.argv[1:]` if not given.

    Image recipes, their demos excepted, have as many workers (`dataloader_num_workers`) as the machine has cores for
    each process, 16 at most, if neither says how many.

    Returns:
        `tuple[RecipeArguments, BaselineConfig]`: the recipe's own arguments, and the settings of training.

    Raises:
        SystemExit: if an argument or setting is unknown (the message names the nearest known one), the settings file
            cannot be read, or methods, seeds or the number of trials have values that they cannot have.
    """
    show_plain_errors(Path(recipe).stem)
    declare(arguments_class)  # the card's command shows them, and no other option of the command line
    description = f"Recipe {Path(recipe).stem}."
    classes = [DataClassType(arguments_class), DataClassType(BaselineConfig)]
    usage = f"{Path(recipe).name} [--NAME VALUE ...]    (--help lists all arguments)"  # errors show it: a line will do
    parser = HfArgumentParser(classes, usage=usage, description=description, allow_abbrev=False)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--demo", nargs="?", const="true", default="false")
    first.add_argument("--dataloader_num_workers")
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
    known = ["help", *(one.name for known_class in classes for one in fields(known_class) if one.init)]
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
        methods = arguments.methods(main_method(config))
        check_methods(methods, arguments.settings_by_method(), config)
        if arguments.tune:
            check_spaces(methods)
    except ValueError as error:
        parser.error(str(error))
    if isinstance(arguments, ImageArguments):
        arguments.workers_given = early.dataloader_num_workers is not None or "dataloader_num_workers" in settings
        if not arguments.workers_given and not arguments.demo:
            here = int(os.environ.get("LOCAL_WORLD_SIZE") or config.world_size)  # of several machines each has its own
            config.dataloader_num_workers = fitting_workers(here)
    leave_processes_at_exit()
    return arguments, config


def _nearest(name: str, known: list[str]) -> str:
    """Return the part of a message that asks about the most similar known name, empty if none is similar."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
