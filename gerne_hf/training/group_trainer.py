"""`GroupTrainer`: the groups of the data, and loaders whose rows carry their group.

Stands on [`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer) and imports `groups/` and
`streaming/`. Evaluations that report every group are the next rung,
[`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import datasets
from torch.utils.data import DataLoader
from transformers.trainer_utils import PredictionOutput, RemoveColumnsCollator, SaveStrategy, TrainOutput
from transformers.utils import logging

from ..config import GerneConfig
from ..evaluation.overlapping import combination_memberships
from ..groups.batches import ColumnsLeftOut, GroupCollator, GroupedDataset, UniformRowsCollator, all_rows_in_order
from ..groups.index import GroupIndex
from ..groups.sets import GroupSets
from ..groups.sources import only_iterated
from ..groups.streamed import NAME_WIDTH, StreamCollator
from ..method.plans import PLANS_WITHOUT_ATTRIBUTES
from ..streaming.stream import GroupedStream, GroupStream
from .checks import (
    check_class_names,
    check_classes,
    check_label_texts,
    check_streamed_evaluation,
    index_training_set,
    inputs_of,
    may_lack_classes,
)
from .known_rows import KnownRows
from .resumable_trainer import ResumableTrainer

logger = logging.get_logger(__name__)


class GroupTrainer(ResumableTrainer):
    """A trainer that knows the group of every row: batches carry the group ids of their rows.

    Hooks for subclasses: [`GroupTrainer.training_groups`] and [`GroupTrainer.expected_groups`].

    Args:
        args ([`GerneConfig`]): the settings; names the attribute column.
        train_dataset, eval_dataset (*optional*): map-style data sets with the label and attribute columns. Training
            rows may also be a [`GroupStream`](gerne_hf.streaming.stream.GroupStream), and evaluation rows any stream
            of dictionaries, such as a `datasets.IterableDataset`.
        attributes (array of shape `(N,)`, *optional*): the attribute value of each training row, where the rows have
            none; `attribute_column` is its name.
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
    feeds_own_loop = False
    """Whether loaders carry group ids; see [`GroupTrainer.feeding_own_loop`]."""
    _rows_of_loop = 0

    def __init__(
        self,
        *,
        args: GerneConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        attributes: Any = None,
        **arguments: Any,
    ):
        if not isinstance(args, GerneConfig):
            raise TypeError(
                f"{type(self).__name__} needs args=GerneConfig(...), which takes all of TrainingArguments; found "
                f"{type(args).__name__}"
            )
        self.args = args
        self._attributes, self._rows_with_attributes = attributes, train_dataset
        self.groups = self.reference_groups = None
        self.known_rows = KnownRows()
        """What is known of the content of the data sets."""
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
            if self._attributes is not None and train_dataset is not self._rows_with_attributes:
                raise ValueError(
                    "attributes= are those of the training set that the trainer was made with, and there is another "
                    "in its place. Make another trainer, or give the rows a field or a column of the attribute"
                )
            who = type(self).__name__
            self.reference_groups = index_training_set(
                train_dataset, args, self.plans_without_attributes, who, self._attributes
            )
            self.groups = self.expected_groups(self.reference_groups)
        self.sets.reference = self.reference_groups
        self.index_evaluation_sets(eval_dataset)

    def index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the evaluation sets (one, several by name, or None): again where the user has put others there."""
        self._persistent_loaders: list[tuple[Any, bool, DataLoader]] = []
        vars(self).pop("_eval_dataloaders", None)
        self.sets.use_evaluation_sets(eval_dataset)
        streams = [data for data, _ in self.sets.known if only_iterated(data)]
        if streams and self.args.pseudo_attributes:
            raise ValueError(
                "pseudo_attributes=True needs evaluation rows by number, to score each one, and the eval_dataset is a "
                f"{type(streams[0]).__name__}, which can only be iterated. Load it without streaming=True"
            )
        for _, index in self.sets.known:
            if index is not None and self.args.overlapping_columns:
                combination_memberships(index)  # refuses other columns than booleans now, and not after an epoch
        if self.args.world_size > 1:
            sets = [(f"evaluation {number}", *known) for number, known in enumerate(self.sets.known, 1)]
            training = [("training", self._indexed, self.reference_groups)] if self._indexed is not None else []
            self.known_rows.check_processes([*training, *sets])

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
        if self.train_dataset is not None and (resume_from_checkpoint or self.args.save_strategy != SaveStrategy.NO):
            self.known_rows.content(self.train_dataset)  # before anything changes what the data set holds
        with self.feeding_own_loop():
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    # ---- loaders ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def feeding_own_loop(self) -> Iterator[None]:
        """Let the loader that is made meanwhile carry group ids, as the trainer's own loops need them.

        All other loaders yield what the model takes: those that users ask for, and those that callbacks are given.
        """
        before, self.feeds_own_loop = self.feeds_own_loop, True
        try:
            yield
        finally:
            self.feeds_own_loop = before

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Return what `Trainer` does; called when the training loop has its loader, so that others are the user's."""
        self.feeds_own_loop, self._rows_of_loop = False, self._train_batch_size
        return super().set_initial_training_values(args, dataloader)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate as `Trainer` does, on a loader whose batches carry group ids. Arguments and result are the same."""
        with self.feeding_own_loop():
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predict as `Trainer` does, on a loader whose batches carry group ids. Arguments and result are the same."""
        with self.feeding_own_loop():
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def loader_for_callbacks(self, loader: Any) -> Any:
        """Return a loader whose batches the model takes: they have no group ids."""
        return self.without_groups(loader)

    def without_groups(self, loader: Any) -> Any:
        """Return a loader of the same rows without group ids; a loader that is none of this trainer's as it is.

        Args:
            loader ([`~torch.utils.data.DataLoader`]): any loader.
        """
        make = getattr(loader, "__dict__", {}).get("plain_loader")
        return loader if make is None else make()

    def with_groups(self, loader: Any) -> Any:
        """Return a loader of the same rows with group ids; a loader that is none of this trainer's as it is.

        Args:
            loader ([`~torch.utils.data.DataLoader`]): any loader.
        """
        make, collator = getattr(loader, "__dict__", {}).get("grouped_loader", (None, None))
        return make() if make is not None and loader.collate_fn is collator else loader

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Make a loader as `Trainer` does, for the trainer's own loops over rows that carry their group ids."""
        rest = description, batch_size, sampler_fn, is_training
        # With auto_find_batch_size the training loop begins anew, with smaller batches.
        begins_anew = is_training and self.is_in_train and batch_size != self._rows_of_loop
        if self.feeds_own_loop or begins_anew:
            with self.feeding_own_loop():
                return self._grouped_loader(dataset, *rest, dataloader_key)
        if is_training:
            self.settle_training_groups()
        return self.plain_loader(dataset, *rest, dataloader_key)

    def plain_loader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Return a loader as `Trainer` makes it, whose batches the model takes: without group ids and attributes.

        Args:
            dataset: the rows, which are the loader's own `dataset` unless columns are removed from them.
            description (`str`), batch_size (`int`), sampler_fn (`Callable`), is_training (`bool`), dataloader_key
                (`str`): as for `Trainer._get_dataloader`.
        """
        rest = description, batch_size, sampler_fn, is_training
        collator, rows = self.data_collator, dataset
        if isinstance(dataset, GroupStream):
            rows = dataset.reader(self.args.process_index, self.args.world_size)
        self.data_collator = ColumnsLeftOut(collator, self._columns_left_out())
        try:
            with contextlib.nullcontext() if is_training else all_rows_in_order(self.args):
                loader: Any = super()._get_dataloader(rows, *rest, dataloader_key)
        finally:
            self.data_collator = collator
        loader.grouped_loader = functools.partial(self._grouped_loader, dataset, *rest), loader.collate_fn
        return loader

    def _columns_left_out(self) -> list[str]:
        """Return the columns that no batch has, as the model does not take them."""
        taken = inputs_of(self.model)
        return [name for name in (*self.args.attribute_columns, *self.hidden_columns) if name not in taken]

    def _grouped_loader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Make a loader as `Trainer` does, over rows that carry their group ids."""
        if not is_training and only_iterated(dataset):
            return self._streamed_loader(dataset, description, batch_size, sampler_fn, False, dataloader_key)
        groups = self.settle_training_groups() if is_training else self.groups_of(dataset, description)
        if self.args.world_size > 1 and not is_training and groups is not None:
            self.known_rows.check_processes([(description.lower(), dataset, groups)])
        rest = description, batch_size, sampler_fn, is_training
        if groups is None:
            return self.plain_loader(dataset, *rest, dataloader_key)
        check_classes(self.model, groups)
        given, collator, removes = dataset, self.data_collator, self.args.remove_unused_columns
        inner: Any
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
        self.data_collator = GroupCollator(inner, groups.num_attributes, self._columns_left_out())
        self.args.remove_unused_columns = False
        try:
            with contextlib.nullcontext() if is_training else all_rows_in_order(self.args):
                loader: Any = super()._get_dataloader(view, *rest, dataloader_key)
        finally:
            self.data_collator, self.args.remove_unused_columns = collator, removes
        loader.plain_loader = functools.partial(self.plain_loader, given, *rest)
        return loader

    def _streamed_loader(self, dataset: Any, description: str, *rest: Any) -> DataLoader:
        """Make a loader over the rows of a stream that is evaluated, which carry the names of their attributes.

        One worker reads at most, as several would give the rows in another order.
        """
        args, collator = self.args, self.data_collator
        check_streamed_evaluation(args)
        rows, width = self.sets.streamed(dataset, description), NAME_WIDTH if args.world_size > 1 else None
        check_class_names(self.model, rows.label_names() or ())
        inner = self._get_collator_with_removed_columns(collator, description)
        before = args.remove_unused_columns, args.dataloader_num_workers
        classes = getattr(getattr(self.model, "config", None), "num_labels", None)
        self.data_collator = StreamCollator(inner, rows, classes, self._columns_left_out(), width)
        args.remove_unused_columns, args.dataloader_num_workers = False, min(1, args.dataloader_num_workers)
        try:
            with all_rows_in_order(args):
                loader: Any = super()._get_dataloader(rows, description, *rest)
        finally:
            self.data_collator = collator
            args.remove_unused_columns, args.dataloader_num_workers = before
        loader.plain_loader = functools.partial(self.plain_loader, dataset, description, *rest[:-1])
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of an evaluation set.

        With persistent workers `Trainer` takes the first set's loader for all sets that have no name; here each set
        has its own, and one more for the trainer's own loop.

        Args:
            eval_dataset (*optional*): the set, or its name among several; the trainer's own if not given.
        """
        if not self.args.dataloader_persistent_workers:
            return super().get_eval_dataloader(eval_dataset)
        wanted = self.eval_dataset if eval_dataset is None else eval_dataset
        wanted = cast(Any, self.eval_dataset)[eval_dataset] if isinstance(eval_dataset, str) else wanted
        for data, feeds, loader in self._persistent_loaders:
            if data is wanted and feeds == self.feeds_own_loop:
                return loader
        vars(self).pop("_eval_dataloaders", None)
        loader = super().get_eval_dataloader(eval_dataset)
        self._persistent_loaders.append((wanted, self.feeds_own_loop, loader))
        return loader
