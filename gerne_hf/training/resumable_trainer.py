"""`ResumableTrainer`: a run that was killed goes on from its checkpoint as if nothing had happened.

Stands on [`PublishingTrainer`](gerne_hf.training.publishing_trainer.PublishingTrainer) and imports `checkpoints/`. The
next rung is [`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer).
"""

import functools
import json
import os
import shutil
import uuid
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy, TrainOutput
from transformers.utils import logging

from ..checkpoints.identity import RUN_FIELDS, check_same_run
from ..checkpoints.seals import UNFINISHED_FILE, newest_whole, read_seal, seal, unseal, warn_of_damaged
from ..checkpoints.weights import read_back, warm_start
from ..utils.distributed import locked_by_main
from ..utils.locks import this_process
from .callback_handler import TrainersCallbackHandler
from .publishing_trainer import PublishingTrainer

logger = logging.get_logger(__name__)


class ResumableTrainer(PublishingTrainer):
    """A trainer whose checkpoints are sealed, and which resumes from whole checkpoints of the same run only.

    A checkpoint is sealed when all processes have written their files, and only then are older ones deleted. Which
    settings and data make a run is said by the hook [`ResumableTrainer.run_identity`]. The hook
    [`ResumableTrainer.begin_epoch`] is called before each epoch, [`ResumableTrainer.checkpoint_facts`] when a
    checkpoint is saved, [`ResumableTrainer.before_train_end`] when training is done and no callback knows it yet, and
    [`ResumableTrainer.loader_for_callbacks`] when a loop has its loader.

    Args:
        arguments: those of [`~transformers.Trainer`], by keyword.
    """

    _ended_early = False
    _told_to_end = False
    _run: dict[str, Any] = {}  # which run this is, for seals

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.callback_handler = TrainersCallbackHandler(
            self.callback_handler, self.before_train_end, self.loader_for_callbacks
        )

    def loader_for_callbacks(self, loader: Any) -> Any:
        """Return the loader that callbacks are given in the place of one of the trainer's own loops.

        Args:
            loader ([`~torch.utils.data.DataLoader`]): the loader of a training or an evaluation.
        """
        return loader

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on, by name; a checkpoint with other values is refused on resume.

        The names in [`RUN_FIELDS`](gerne_hf.checkpoints.identity.RUN_FIELDS) are compared, others are only recorded.
        A subclass adds to what `super().run_identity()` returns. Values must be JSON.
        """
        args = self.args
        return {
            "trainer": type(self).__name__,
            "seed": [args.seed, args.seed if args.data_seed is None else args.data_seed],
            "batch_size": self._train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "world_size": args.world_size,
        }

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as `Trainer` does.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): the checkpoint to go on from; True takes the newest
                whole one in `output_dir`.
            trial, ignore_keys_for_eval (*optional*): as for `Trainer.train`.

        Raises:
            ValueError: for a checkpoint that is not whole, belongs to another run, or holds the model only.
            FolderInUseError: on every process, if another run is training in `output_dir`.
        """
        self._ended_early = self._told_to_end = False
        self._run = {"run_id": uuid.uuid4().hex[:12], "process": this_process()}
        if trial is not None:  # trials are in folders of their own, below that of their search, which is locked
            return self._train_or_resume(resume_from_checkpoint, trial, ignore_keys_for_eval)
        way_out = "Two runs would overwrite each other's checkpoints. Wait for its end, or choose another output_dir"
        main = self.is_world_process_zero()
        with locked_by_main(self.run_folder, "training", way_out, main, self.args.world_size):
            return self._train_or_resume(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _train_or_resume(self, resume: str | bool | None, trial: Any, ignore_keys: list[str] | None) -> TrainOutput:
        checkpoint = self._checked_checkpoint(resume) if resume else None
        if trial is None:
            self.begin_pushes(checkpoint)
        return super().train(checkpoint, trial, ignore_keys)

    def before_train_end(self) -> None:
        """Do what belongs to the run: called when it is done and the best model is loaded, before `on_train_end`.

        Trackers end their runs at `on_train_end`, and what is logged later would be another run. It is called for the
        trials of a search, too, and on all processes. On this rung nothing is done.
        """

    def checkpoint_facts(self) -> dict[str, Any]:
        """Return what a checkpoint records besides the run's identity, as JSON; called when the checkpoint is saved.

        A subclass adds to what `super().checkpoint_facts()` returns. It is found in the checkpoint's seal, by
        [`read_seal`](gerne_hf.checkpoints.seals.read_seal).
        """
        return {}

    def _checked_checkpoint(self, wanted: str | os.PathLike | bool) -> str:
        """Return the folder of the checkpoint to go on from, after all checks."""
        args = self.args
        folder, message = None, None
        if self.is_world_process_zero():  # one process reads all files; the others need not
            try:
                folder = self._whole_checkpoint(wanted)
            except ValueError as error:
                message = str(error)
        if args.world_size > 1:
            folder, message = broadcast_object_list([folder, message])
        if folder is None:
            raise ValueError(message)
        saved = read_seal(folder)
        with_optimizer = "latest" if self.is_deepspeed_enabled else "scheduler.pt"  # a file beside its state
        if not os.path.isfile(os.path.join(folder, with_optimizer)):
            raise ValueError(
                f"the checkpoint {folder} holds the model only (save_only_model=True): without the optimizer's state "
                f"a run cannot go on as if nothing had happened. Start anew{self._from_weights_of(folder)}"
            )
        present = self._recorded_identity()[0]
        if args.auto_find_batch_size:  # Trainer takes it from the checkpoint
            del present["batch_size"]
        self._run["run_id"] = saved.get("run_id", self._run["run_id"])
        unknown = check_same_run(saved["run"], present, getattr(args, "resume_with_changes", None) or [], folder)
        self._say_what_is_unknown(folder, saved, unknown)
        self._look_at_early_stopping(folder, told_to_end=saved.get("told_to_end", False))
        return folder

    def _whole_checkpoint(self, wanted: str | os.PathLike | bool) -> str:
        """Return the folder of a whole checkpoint, all of whose files were read; warn of those passed over."""
        if wanted is True:
            newest, damaged = newest_whole(self.run_folder, contents=True)
            if newest is None:
                weights = next(filter(None, map(self._from_weights_of, damaged)), "")
                found = "; ".join(f"{path} is not whole: {reason}" for path, reason in damaged.items())
                raise ValueError(
                    f"there is no checkpoint to resume from in output_dir {self.args.output_dir!r}"
                    f"{f' ({found})' if found else ''}. Start anew, without resume_from_checkpoint{weights}"
                )
            warn_of_damaged(newest, damaged)
            return newest
        folder = os.fspath(cast(str, wanted))
        try:
            read_seal(folder, contents=True)
        except ValueError as error:
            if not os.path.isdir(folder):
                raise ValueError(f"there is no checkpoint {folder}: no such folder") from None
            other = newest_whole(os.path.dirname(os.path.abspath(folder)), contents=True)[0]
            way_out = f"Resume from {other}, the newest whole one" if other else "There is no whole one beside it"
            raise ValueError(
                f"the checkpoint {folder} is not whole: {error}. It was cut off while it was written, damaged "
                f"afterwards, or written by another trainer. {way_out}, or start anew{self._from_weights_of(folder)}"
            ) from None
        return folder

    def _from_weights_of(self, folder: str) -> str:
        """Return the end of a sentence that says how to start with the weights of a checkpoint, "" if it has none."""
        line = warm_start(self.accelerator.unwrap_model(self.model), folder)
        return f"; to have its weights to start with, make the model by `{line}`" if line else ""

    def _say_what_is_unknown(self, folder: str, saved: dict[str, Any], unknown: list[str]) -> None:
        """Warn once of what nobody can compare between a checkpoint and this run."""
        reasons = [f"of {what} no fingerprint can be made" for what in self._recorded_identity()[1].get("unknown", [])]
        if any(name not in saved["run"] for name in unknown):
            reasons.append(f"it was written by an earlier release of gerne_hf, which did not record {unknown}")
        if reasons and self.is_world_process_zero():
            logger.warning(
                f"Whether {folder} belongs to the same run is not known in full: {'; '.join(reasons)}. The run goes "
                "on from it. Make sure that nothing of this has changed"
            )

    def _look_at_early_stopping(self, folder: str, told_to_end: bool) -> None:
        """Find out whether a callback had ended the run at this checkpoint; warn if the callback will count anew."""
        state = TrainerState.load_from_json(os.path.join(folder, TRAINER_STATE_NAME))
        early = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        if early and not self.args.restore_callback_states_from_checkpoint:
            logger.warning_once(
                "EarlyStoppingCallback starts to count anew after a resume; with "
                "restore_callback_states_from_checkpoint=True it goes on as if nothing had happened."
            )
        elif early and state.global_step < state.max_steps and not told_to_end:
            control = (state.stateful_callbacks or {}).get("TrainerControl", {})
            self._ended_early = bool(control.get("args", {}).get("should_training_stop"))

    def _recorded_identity(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parts of [`run_identity`] that are compared on resume, and the others, as they read in JSON."""
        identity = json.loads(json.dumps(self.run_identity()))
        compared = {name: identity.pop(name) for name in RUN_FIELDS if name in identity}
        return compared, identity

    def _run_epoch(self, *positional: Any, **arguments: Any) -> None:
        """Run an epoch as `Trainer` does, unless the run has ended.

        A run that resumes from its last checkpoint, saved within an epoch, would take one more step otherwise.
        """
        by_epochs = self.args.eval_strategy == IntervalStrategy.EPOCH  # a callback costs every step some time
        if by_epochs and not any(isinstance(c, SaveAfterEvaluation) for c in self.callback_handler.callbacks):
            self.add_callback(SaveAfterEvaluation())
        self.begin_epoch()
        if self._ended_early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*positional, **arguments)

    def begin_epoch(self) -> None:
        """Prepare for an epoch of which `state.epoch` tells the number; called before its first row is drawn.

        On this rung nothing is done. A method of the trainer costs no time at each step, as a callback would.
        """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of a checkpoint, which are found under the names they were saved with."""
        with read_back(self.model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the state of optimizer and schedule as `Trainer` does, under FSDP 1 with sharded state, too.

        Accelerate reads shards of an optimizer's state into the state that the optimizer has. Under FSDP 1 a new
        optimizer has none, so nothing would be read, and no error raised.
        """
        plugin = self._plugin_with_shards()
        if checkpoint is not None and plugin is not None and plugin.fsdp_version == 1:
            from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

            optimizer: Any = self.optimizer
            get_optimizer_state_dict(
                cast(torch.nn.Module, self.model), optimizer.optimizer
            )  # it gives a new one its first state
        super()._load_optimizer_and_scheduler(checkpoint)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; under FSDP with sharded state it is gathered and saved whole, but for checkpoints.

        Under FSDP with sharded state `Trainer.save_model` saves no weights and raises no error. Checkpoints have the
        shards.
        """
        plugin, in_checkpoint = self._plugin_with_shards(), _internal_call and output_dir is not None
        if plugin is None or in_checkpoint:
            return super().save_model(output_dir, _internal_call)
        in_shards, whole = plugin.state_dict_type, type(plugin.state_dict_type).FULL_STATE_DICT
        plugin.state_dict_type = whole
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            plugin.state_dict_type = in_shards

    def _plugin_with_shards(self) -> Any:
        """Return the settings of FSDP if each process saves its part of the state, else None."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        return plugin if plugin and plugin.state_dict_type.name == "SHARDED_STATE_DICT" else None

    def _load_best_model(self) -> None:
        """Load the weights of the best checkpoint, which are found under the names they were saved with.

        Raises:
            ValueError: if it has been damaged since it was saved, or another run has written over it; the weights at
                hand are those of the last step.
        """
        best = str(self.state.best_model_checkpoint)
        if self.is_world_process_zero() and os.path.isdir(best):
            try:
                saved = read_seal(best, contents=True)
            except ValueError as error:
                raise ValueError(
                    f"training has ended, but the best model cannot be loaded: the checkpoint {best} is not whole: "
                    f"{error}. {self._describe_kept(os.path.dirname(best))}"
                ) from None
            if saved.get("run_id", self._run["run_id"]) != self._run["run_id"]:  # earlier versions named no run
                writer = saved["process"]
                raise ValueError(
                    f"training has ended, but the best model cannot be loaded: the checkpoint {best} is of another "
                    f"run, that of process {writer['pid']} on {writer['host']} since {writer['started']}. Two runs "
                    "wrote into one output_dir; train again, each in an output_dir of its own"
                )
        with read_back(self.model, best):
            super()._load_best_model()
        if os.path.isdir(best):  # else Trainer has warned, and the weights are those of the last step
            self.best_model_loaded(read_seal(best))

    def best_model_loaded(self, record: dict[str, Any]) -> None:
        """Take note that the weights at hand are now those of the best checkpoint; called when training ends.

        On this rung nothing is done.

        Args:
            record (`dict[str, Any]`): what the checkpoint's seal holds: `step`, and what
                [`ResumableTrainer.checkpoint_facts`] returned when it was saved.
        """

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint as `Trainer` does, and seal it before anything is pushed or deleted.

        The last file that `Trainer` writes is the state, through `state.save_to_json`; the seal follows it there.
        """
        folder = os.path.join(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:
            unseal(folder)
        self._wait_for_all()  # no process writes into a folder that still looks whole
        self.state.save_to_json = functools.partial(self._save_state_and_seal, folder)  # type: ignore[method-assign]
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            error.add_note(self._describe_failed_save(folder))
            raise
        finally:
            del self.state.save_to_json

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the random state, the last file that each process writes, and wait for the other processes."""
        super()._save_rng_state(output_dir)
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        if self.args.world_size > 1:
            self.accelerator.wait_for_everyone()

    def _save_state_and_seal(self, folder: str, path: str) -> None:
        """Write the trainer's state to `path`, then the seal of the checkpoint in `folder`."""
        self._told_to_end |= os.path.isfile(os.path.join(folder, UNFINISHED_FILE))
        TrainerState.save_to_json(self.state, path)
        compared, others = self._recorded_identity()
        facts = {"step": self.state.global_step, "told_to_end": self._told_to_end, **self._run}
        record = {**facts, "run": compared, **others}
        record |= self.checkpoint_facts()
        # Where older checkpoints are about to be deleted, this one must outlast a loss of power.
        seal(folder, record, durable=self.args.save_total_limit is not None)

    def _describe_failed_save(self, folder: str) -> str:
        """Say how much room there is on the disk, and from which checkpoint the run can go on."""
        parent = os.path.dirname(folder)
        free = shutil.disk_usage(parent).free / 1e6 if os.path.isdir(parent) else 0.0
        kept = self._describe_kept(parent)
        return f"The checkpoint {folder} could not be written ({free:,.0f} MB are free there). {kept}."

    def _describe_kept(self, parent: str) -> str:
        """Say from which checkpoint in the folder `parent` the run can go on."""
        kept = newest_whole(parent, contents=True)[0]
        return f"{kept} is whole: train(resume_from_checkpoint=True) goes on from it" if kept else "None is whole"


class SaveAfterEvaluation(TrainerCallback):
    """Puts off a checkpoint at the end of an epoch until that epoch's evaluation is done.

    [`ResumableTrainer`] adds it where evaluations come by epochs. If checkpoints come by steps then, `Trainer` saves
    first and evaluates afterwards. A run that resumes from such a checkpoint would lack the evaluation and the random
    numbers that it drew.
    """

    _waits = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take back a save that falls on the last step of an epoch whose evaluation is still to come."""
        ends = control.should_training_stop or float(state.epoch or 0.5).is_integer()
        by_epochs = args.eval_strategy == IntervalStrategy.EPOCH and not control.should_evaluate
        self._waits = control.should_save and ends and by_epochs
        if self._waits:
            control.should_save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for the save that was put off; `Trainer` evaluates first here."""
        control.should_save = control.should_save or self._waits
        self._waits = False
