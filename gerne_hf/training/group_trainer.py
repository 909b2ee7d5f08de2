"""`GroupTrainer`: the groups of the data, and loaders whose rows carry their group.

Stands on [`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer) and imports `groups/` and
`streaming/`. Evaluations that report every group are the next rung,
[`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer).
"""

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import datasets
from torch.utils.data import DataLoader
from transformers.trainer_utils import RemoveColumnsCollator, TrainOutput
from transformers.utils import logging

from ..config import GerneConfig
from ..evaluation.overlapping import combination_memberships
from ..groups.batches import GroupCollator, GroupedDataset, UniformRowsCollator, all_rows_in_order
from ..groups.index import GroupIndex
from ..groups.sets import GroupSets
from ..method.plans import PLANS_WITHOUT_ATTRIBUTES
from ..streaming.stream import GroupedStream, GroupStream
from .checks import check_classes, check_label_texts, index_training_set, inputs_of, may_lack_classes
from .resumable_trainer import ResumableTrainer

logger = logging.get_logger(__name__)


class GroupTrainer(ResumableTrainer):
    """A trainer that knows the group of every row: batches carry the group ids of their rows.

    Hooks for subclasses: [`GroupTrainer.training_groups`] and [`GroupTrainer.expected_groups`].

    Args:
        args ([`GerneConfig`]): the settings; names the attribute column.
        train_dataset, eval_dataset (*optional*): map-style data sets with the label and attribute columns. Training
            rows may also be a stream ([`GroupStream`](gerne_hf.streaming.stream.GroupStream)).
        arguments: the other arguments of [`~transformers.Trainer`].

    Raises:
        TypeError: for a config that is no [`GerneConfig`], and for data without columns or with unusable ones.
        ValueError: for groups that cannot be trained on, and for `label_names` other than "labels".
    """

    plans_without_attributes: ClassVar[tuple[str, ...]] = PLANS_WITHOUT_ATTRIBUTES
    """Plans that this trainer can train without an attribute column."""
    hidden_columns: tuple[str, ...] = ()
    """Columns that are taken out of every batch, besides the attribute columns; inputs of the model are kept."""

    args: GerneConfig
    groups: GroupIndex | None
    """The groups that are trained on; None without a training set."""
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""
    data_collator: Any

    def __init__(
        self, *, args: GerneConfig | None = None, train_dataset: Any = None, eval_dataset: Any = None, **arguments: Any
    ):
        if not isinstance(args, GerneConfig):
            raise TypeError(
                f"{type(self).__name__} needs args=GerneConfig(...), which takes all of TrainingArguments; found "
                f"{type(args).__name__}"
            )
        self.args = args
        self.groups = self.reference_groups = None
        self._index_sets(train_dataset, eval_dataset)
        super().__init__(args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, **arguments)
        if args.label_names not in (None, ["labels"]):
            raise ValueError(
                f"label_names={args.label_names!r}: a batch's labels are found under 'labels' here, in training "
                "and in evaluation. Leave label_names unset, and let the data_collator return the labels as 'labels'"
            )
        check_label_texts(train_dataset, args.label_column, self.data_collator)
        self.label_names = ["labels"]  # Trainer guesses them from the forward's arguments

    # ---- groups of the data -----------------------------------------------------------------------------------------

    def training_groups(self) -> GroupIndex | None:
        """Return the groups to train on; called before each training and before a training loader is made.

        A subclass may find them out here at some cost, such as by training another model first. On this rung they are
        the groups of the data.
        """
        return self.groups

    def expected_groups(self, reference: GroupIndex) -> GroupIndex:
        """Return the groups to train on as far as they are known at construction, for early checks.

        Args:
            reference ([`GroupIndex`]): the training rows by the attribute that is evaluated, or by class alone.
        """
        return reference

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the training set's classes; None without a training set."""
        return None if self.groups is None else self.groups.label_names

    def settle_training_groups(self) -> GroupIndex | None:
        """Bring `groups` up to date by [`GroupTrainer.training_groups`], and return it."""
        self.groups = self.training_groups()
        return self.groups

    def index_anew_if_replaced(self) -> bool:
        """Index the training set again if the user has put another one in its place.

        Returns:
            `bool`: whether there is another training set.
        """
        if self.train_dataset is None or self.train_dataset is self._indexed:
            return False
        self._index_sets(self.train_dataset, self.eval_dataset)
        return True

    def groups_of(self, dataset: Any, description: str = "evaluation") -> GroupIndex | None:
        """Return the group index of an evaluation set, with the names of the training set's groups.

        Args:
            dataset: a data set with the label and attribute columns.
            description (`str`, defaults to `"evaluation"`): what the set is called in messages.
        """
        return self.sets.index_of(dataset, description)

    @property
    def known_indices(self) -> list[GroupIndex]:
        """The indices of the training set and of the evaluation sets that were given at construction."""
        return [index for index in (self.groups, *(index for _, index in self.sets.known)) if index is not None]

    def _index_sets(self, train_dataset: Any, eval_dataset: Any) -> None:
        args = self.args
        overlapping, lacking = args.overlapping_columns or (), may_lack_classes(args)
        self.sets = GroupSets(args.label_column, args.attribute_columns, overlapping, lacking)
        """The indices of all sets, the training set's among them."""
        self._indexed = train_dataset
        if train_dataset is not None:
            self.reference_groups = index_training_set(
                train_dataset, args, self.plans_without_attributes, type(self).__name__
            )
            self.groups = self.expected_groups(self.reference_groups)
        self.sets.reference = self.reference_groups
        self.index_evaluation_sets(eval_dataset)

    def index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the evaluation sets (one, several by name, or None): again where the user has put others there."""
        self._persistent_loaders: list[tuple[Any, DataLoader]] = []
        vars(self).pop("_eval_dataloaders", None)
        self.sets.use_evaluation_sets(eval_dataset)
        for _, index in self.sets.known:
            if index is not None and self.args.overlapping_columns:
                combination_memberships(index)  # refuses other columns than booleans now, and not after an epoch

    def judged_columns(self) -> tuple[str, ...]:
        """Return the columns whose groups evaluations are over."""
        return self.args.attribute_columns or tuple(self.args.overlapping_columns or ())

    def evaluation_prefixes(self) -> list[str]:
        """Return the prefixes under which `evaluate()` leaves its results, one for each evaluation set."""
        named = self.eval_dataset
        return [f"eval_{name}" for name in named] if isinstance(named, dict) else ["eval"]

    # ---- training ---------------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Settle the groups to train on, then train. Arguments and result are those of `Trainer.train`."""
        if self.args.world_size > 1 and self.model is not None and self.model_wrapped is self.model:
            # evaluate() marks a model as prepared without wrapping it, so accelerate would leave it out of DDP here:
            # the processes would train models that drift apart, silently.
            vars(self.model).pop("_is_accelerate_prepared", None)
        self.index_anew_if_replaced()
        self.settle_training_groups()
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    # ---- loaders ----------------------------------------------------------------------------------------------------

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Make a loader as `Trainer` does, over rows that carry their group ids."""
        groups = self.settle_training_groups() if is_training else self.groups_of(dataset, description)
        order = contextlib.nullcontext() if is_training else all_rows_in_order(self.args)
        rest = description, batch_size, sampler_fn, is_training, dataloader_key
        if groups is None:
            with order:
                return super()._get_dataloader(dataset, *rest)
        check_classes(self.model, groups)
        collator: Any
        collator, removes = self.data_collator, self.args.remove_unused_columns
        # Trainer removes columns from a datasets.Dataset, or else from the rows before they are collated. The view
        # below hides the data set, and its rows are no dictionaries, so both are done here.
        if isinstance(dataset, datasets.Dataset):
            dataset, inner = self._remove_unused_columns(dataset, description), collator
        else:
            inner = self._get_collator_with_removed_columns(collator, description)
            if type(inner) is RemoveColumnsCollator:
                inner = UniformRowsCollator(inner)
        view: GroupedDataset
        if isinstance(dataset, GroupStream):
            view = GroupedStream(dataset.reader(self.args.process_index, self.args.world_size), groups, self.args.seed)
        else:
            view = GroupedDataset(dataset, groups, self.args.seed if is_training else None)
        taken = inputs_of(self.model)
        hidden = [name for name in (*self.args.attribute_columns, *self.hidden_columns) if name not in taken]
        self.data_collator = GroupCollator(inner, groups.num_attributes, hidden)
        self.args.remove_unused_columns = False
        try:
            with order:
                return super()._get_dataloader(view, *rest)
        finally:
            self.data_collator, self.args.remove_unused_columns = collator, removes

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of an evaluation set.

        With persistent workers `Trainer` takes the first set's loader for all sets that have no name; here each set
        has its own.

        Args:
            eval_dataset (*optional*): the set, or its name among several; the trainer's own if not given.
        """
        if not self.args.dataloader_persistent_workers or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        wanted = self.eval_dataset if eval_dataset is None else eval_dataset
        for data, loader in self._persistent_loaders:
            if data is wanted:
                return loader
        vars(self).get("_eval_dataloaders", {}).pop("eval", None)
        self._persistent_loaders.append((wanted, super().get_eval_dataloader(eval_dataset)))
        return self._persistent_loaders[-1][1]
