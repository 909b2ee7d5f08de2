"""`RunRecord`: all that cards, pages, tables and comparisons know of a run, and the names of the files of a run.

A record is made by [`GerneTrainer.run_record`] and is what `group_metrics.json` holds. Everything in `reports/` reads
a record, never a trainer, so that the card of a run that has ended can be written without its model and its data.
This module imports nothing heavy; [`model_facts`](gerne_hf.reports.facts.model_facts) looks at live objects.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Any

from ..utils.files import write_json

GROUP_METRICS_FILE = "group_metrics.json"
TRAINING_PICTURE_FILE = "training.png"
RECOVERY_PICTURE_FILE = "pseudo_attributes.png"
COMPARISON_FILE = "comparison.json"
COMPARISON_PICTURE_FILE = "comparison.png"
SEARCH_FOLDER = "search"
SEARCH_FILE = "search.json"
SEARCH_PICTURE_FILE = "search.png"
EXAMPLES_FOLDER = "_examples"
"""The Trainer leaves names that begin with an underscore out of every push: examples are data."""
EXAMPLES_FILE = "examples.json"
INFERRED_FILE = "inferred_groups.json"
"""What was taken for a minority, in a run with unknown attributes."""
INFERRED_FOLDER = "inferred"
"""Folder in that of the examples with hard and typical training rows, and `examples.json` about them."""

ORIGINAL_TRAINER = "GerneTrainer"
"""Class name of the trainer whose method is its plan alone; a subclass adds something of its own to the plan."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model is.

    Args:
        name (`str`): name of the model's class; of an adapter the class of the model that it adapts.
        task (`str`, *optional*): the task as pipelines call it, such as `"text-classification"`.
        base (`str`, *optional*): Hub id of the model that it was fine-tuned from.
        adapter (`bool`): whether it is a PEFT adapter.
        timm (`bool`): whether it is a model of timm in the wrapper of Transformers.
        own (`bool`): whether its class is one of `gerne_hf`, which must be imported before the model is loaded.
        processor (`str`, *optional*): what prepares its inputs and is saved with it, "tokenizer" or
            "image_processor"; None if nothing is.
        labels (`list[str]`): the names of its classes in the order of their ids.
        local_base (`bool`): whether it is an adapter of a model that lies in a local folder.
        base_license (`dict`): `license`, `license_name` and `license_link` of the base model, as far as its card says.
    """

    name: str
    task: str | None
    base: str | None
    adapter: bool
    timm: bool
    own: bool
    processor: str | None = None
    labels: list[str] = field(default_factory=list)
    local_base: bool = False
    base_license: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """What a run did, and on what.

    Args:
        trainer (`str`): name of the trainer's class.
        plan (`str`): name of the batch plan.
        steps (`int`): optimizer steps that were done; 0 if nothing was trained.
        seconds (`float`, *optional*): how long the training took.
        devices (`str`): number and kind of the devices, such as `"2 x cpu"`.
        processes (`int`): number of processes.
        evaluation_sets (`list[str]`, *optional*): names of the evaluation sets, empty for a single set without a
            name; None without an evaluation set.
        train_rows (`int`, *optional*): rows of the training set; of a stream, the rows in which groups were counted.
        streamed (`bool`): whether the training rows are a stream of which only the first rows were counted.
        attribute_columns (`list[str]`): columns that hold the attribute.
        overlapping_columns (`list[str]`): columns of attributes of which a row may have several at once.
        data_origin (`list[str]`, *optional*): Hub id and commit of the data set, where they are known.
        hub_id (`str`, *optional*): Hub id of the repository that the model is pushed to.
        hub_revision (`str`, *optional*): branch of that repository; None for its default one.
        attribute_source (`str`, *optional*): who or what says which attribute a row has.
        training_accuracies_left_out (`str`, *optional*): why the training rows were not evaluated for the card.
    """

    trainer: str
    plan: str
    steps: int
    seconds: float | None
    devices: str
    processes: int
    evaluation_sets: list[str] | None
    train_rows: int | None
    streamed: bool
    attribute_columns: list[str]
    overlapping_columns: list[str]
    data_origin: list[str] | None
    hub_id: str | None
    hub_revision: str | None = None
    attribute_source: str | None = None
    training_accuracies_left_out: str | None = None

    @property
    def trained(self) -> bool:
        """Whether the weights come out of a training, and not just out of the model that was given."""
        return self.steps > 0

    @property
    def plain(self) -> bool:
        """Whether the method is plain ERM, which looks at no group."""
        return self.trainer == ORIGINAL_TRAINER and self.plan == "erm"

    @property
    def has_attributes(self) -> bool:
        """Whether the groups of the evaluations are more than the classes."""
        return bool(self.attribute_columns or self.overlapping_columns)


@dataclass(frozen=True)
class RunRecord:
    """All that reports know of a run. Its fields are the keys of `group_metrics.json`.

    Args:
        model ([`ModelFacts`]): what the model is.
        run ([`RunFacts`]): what the run did.
        evaluations (`dict[str, dict]`): by prefix ("eval", "test", ...), the latest result of
            [`group_metrics`](gerne_hf.evaluation.group_metrics), with the `step` of the weights.
        settings (`dict`): the seed, and all settings that differ from their defaults.
        method (`dict`, *optional*): plan, c, beta, its bounds, rows and segments; None without a training set.
        train_groups (`dict`, *optional*): names and `(K, A)` counts of the groups that were trained on.
        selection (`dict`, *optional*): `metric`, `best_model_loaded`, `step`, and `search`: the names of the settings
            that a search has chosen and its number of trials; `collapse`: the value of the metric at the `step`
            (`best`) and its last `value`, at the step `at`, where that is far lower; `guess`: the `loss` with which
            training ended and the number of `classes`, where that is the loss of a guess.
        pseudo_attributes (`dict`, *optional*): threshold, recovery of the minority, and facts of the biased model;
            None with known attributes.
        example (`dict`, *optional*): a text as `input` (None: a white image), and the model's `output`, `label` and
            `score`; None where nobody asked it.
    """

    model: ModelFacts
    run: RunFacts
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] | None = None
    train_groups: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    pseudo_attributes: dict[str, Any] | None = None
    example: dict[str, Any] | None = None

    @property
    def named_evaluations(self) -> dict[str, dict[str, Any]]:
        """The evaluations by prefix; one of rows that are not the evaluation set's is called "other"."""
        return {
            prefix if result.get("of_eval_dataset", True) else "other": result
            for prefix, result in self.evaluations.items()
        }

    @property
    def recovery(self) -> list[dict[str, Any]]:
        """By threshold, how much of the minority the pseudo-attributes find; empty where nobody knows."""
        return (self.pseudo_attributes or {}).get("recovery") or []

    def as_json(self) -> dict[str, Any]:
        """Return the record as nested dictionaries; parts that are None are left out."""
        parts = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        parts["model"], parts["run"] = dataclasses.asdict(self.model), dataclasses.asdict(self.run)
        order = [*(name for name in parts if name not in ("model", "run")), "model", "run"]
        return {name: parts[name] for name in order if parts[name] is not None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RunRecord":
        """Make a record of what [`RunRecord.as_json`] returned.

        Raises:
            KeyError, TypeError: for a value that is no such record.
        """
        parts = {part.name: value[part.name] for part in dataclasses.fields(cls) if part.name in value}
        return cls(**{**parts, "model": ModelFacts(**value["model"]), "run": RunFacts(**value["run"])})

    def save(self, directory: str | os.PathLike) -> str:
        """Write `group_metrics.json`; a failure leaves the file that was there.

        Args:
            directory (`str`): folder of the file, made if there is none.

        Returns:
            `str`: the file's path.
        """
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, GROUP_METRICS_FILE)
        write_json(self.as_json(), path)
        return path

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "RunRecord":
        """Read the record of a run that has ended.

        Args:
            directory (`str`): the run's folder.

        Raises:
            FileNotFoundError: if the folder holds no `group_metrics.json`.
            KeyError, TypeError, ValueError: if the file is no record of a run.
        """
        with open(os.path.join(directory, GROUP_METRICS_FILE), encoding="utf-8") as file:
            return cls.from_json(json.load(file))
