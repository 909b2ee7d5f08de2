"""Saving and resuming in a Trainer: a run that was killed goes on from its checkpoint as if nothing had happened."""

import functools
import json
import os
import shutil
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy
from transformers.utils import logging

from ..checkpoints.identity import RUN_FIELDS, check_same_run
from ..checkpoints.seals import checkpoint_to_resume, newest_whole, read_seal, seal, unseal
from ..checkpoints.weights import read_back
from ..groups.fingerprints import group_fingerprint
from ..method.plans import PLANS_WITH_BETA

logger = logging.get_logger(__name__)


class CheckpointMixin:
    """The part of [`GerneTrainer`] that saves and resumes; goes before `Trainer` in the bases.

    A checkpoint is sealed when all processes have written their files, and only then older ones are deleted. A run
    resumes from a whole checkpoint of the same run alone.
    """

    _fields_of_method: tuple[str, ...] = ()
    """Fields of the config that a subclass adds to the method."""
    _ended_early = False

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """The parent's. `resume_from_checkpoint=True` takes the newest whole checkpoint; one that is not whole, or of
        another run, is refused."""
        self._ended_early = False
        if resume_from_checkpoint:
            resume_from_checkpoint = self._checked_checkpoint(resume_from_checkpoint)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _checked_checkpoint(self, wanted: str | bool) -> str:
        args = self.args
        if wanted is True:
            folder, damaged = newest_whole(args.output_dir)
            if self.is_world_process_zero() and folder is not None:
                checkpoint_to_resume(args.output_dir)
            if folder is None:
                found = "; ".join(f"{path} is not whole: {reason}" for path, reason in damaged.items())
                raise ValueError(
                    f"there is no checkpoint to resume from in output_dir {args.output_dir!r}"
                    f"{f' ({found})' if found else ''}. Start anew, without resume_from_checkpoint"
                )
        else:
            folder = os.fspath(wanted)
        try:
            saved = read_seal(folder)
        except ValueError as error:
            if not os.path.isdir(folder):
                raise ValueError(f"there is no checkpoint {folder}: no such folder") from None
            other = newest_whole(os.path.dirname(os.path.abspath(folder)))[0]
            way_out = f"Resume from {other}, the newest whole one" if other else "There is no whole one beside it"
            raise ValueError(
                f"the checkpoint {folder} is not whole: {error}. It was cut off while it was written, or written by "
                f"another trainer. {way_out}, or start anew"
            ) from None
        with_optimizer = "latest" if self.is_deepspeed_enabled else "scheduler.pt"  # a file beside its state
        if not os.path.isfile(os.path.join(folder, with_optimizer)):
            raise ValueError(
                f"the checkpoint {folder} holds the model only (save_only_model=True): without the optimizer's state "
                "a run cannot go on as if nothing had happened. Load the model from it, and start anew"
            )
        present = self._run_record()
        if args.auto_find_batch_size:  # the parent takes it from the checkpoint
            del present["batch_size"]
        check_same_run(saved["run"], present, args.resume_with_changes or [], folder)
        state = TrainerState.load_from_json(os.path.join(folder, TRAINER_STATE_NAME))
        early = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        if early and not args.restore_callback_states_from_checkpoint:
            logger.warning_once(
                "EarlyStoppingCallback starts to count anew after a resume; with "
                "restore_callback_states_from_checkpoint=True it goes on as if nothing had happened."
            )
        elif early and state.global_step < state.max_steps:
            control = (state.stateful_callbacks or {}).get("TrainerControl", {})
            self._ended_early = bool(control.get("args", {}).get("should_training_stop"))
        return folder

    def _run_record(self) -> dict[str, Any]:
        """[`RUN_FIELDS`] of this run, as JSON."""
        args = self.args
        has_beta = args.plan in PLANS_WITH_BETA
        values = {
            "trainer": type(self).__name__,
            "data": self._data_fingerprint(),
            "plan": args.plan,
            "c": float(args.c) if has_beta else None,
            "beta": float(args.beta) if has_beta else None,
            "beta_schedule": args.beta_schedule if has_beta else None,
            "beta_ramp": float(args.beta_ramp) if has_beta and args.beta_schedule != "constant" else None,
            "biased_share": float(args.biased_share) if args.plan == "independent" else None,
            "class_balanced": args.class_balanced,
            "threshold": float(args.threshold) if args.pseudo_attributes else None,
            "method_settings": {name: getattr(args, name, None) for name in self._fields_of_method},
            "seed": [args.seed, args.seed if args.data_seed is None else args.data_seed],
            "batch_size": self._train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "world_size": args.world_size,
        }
        return json.loads(json.dumps({name: values[name] for name in RUN_FIELDS}))

    def _data_fingerprint(self) -> str | None:
        """Of the groups that are trained on; computed once."""
        if self.groups is None:
            return None
        known = getattr(self, "_known_fingerprint", (None, ""))
        if known[0] is not self.groups:
            self._known_fingerprint = known = self.groups, group_fingerprint(self.groups)
        return known[1]

    def _run_epoch(self, **arguments):
        """The parent's, which would take one more step after a resume from the last checkpoint of a run that ends
        within an epoch."""
        if self._ended_early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**arguments)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """The parent's; the weights are found under the names they were saved with."""
        with read_back(self.model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint):
        """The parent's. Accelerate reads shards of an optimizer's state into the state that the optimizer has: under
        FSDP 1 a new one has none, and nothing would be read, without a word."""
        plugin = self._plugin_with_shards()
        if checkpoint is not None and plugin is not None and plugin.fsdp_version == 1:
            from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

            get_optimizer_state_dict(self.model, self.optimizer.optimizer)  # it gives a new one its first state
        super()._load_optimizer_and_scheduler(checkpoint)

    def save_model(self, output_dir=None, _internal_call=False):
        """The parent's. Of a model whose state is saved in shards it would write nothing, without a word: it is
        written whole, but in checkpoints, which have the shards."""
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
        """The settings of FSDP, if each process saves its part of the state; else None."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        return plugin if plugin and plugin.state_dict_type.name == "SHARDED_STATE_DICT" else None

    def _load_best_model(self):
        """The parent's; the weights are found under the names they were saved with."""
        with read_back(self.model, self.state.best_model_checkpoint):
            super()._load_best_model()

    def _save_checkpoint(self, model, trial):
        """The parent's; its last file is followed by the seal, before anything is pushed or deleted."""
        folder = os.path.join(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:
            unseal(folder)
        self._wait_for_all()  # no process writes into a folder that still looks whole
        self.state.save_to_json = functools.partial(self._save_state_and_seal, folder)
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            error.add_note(self._describe_failed_save(folder))
            raise
        finally:
            del self.state.save_to_json

    def _save_rng_state(self, output_dir):
        """The parent's, the last files that each process writes."""
        super()._save_rng_state(output_dir)
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        if self.args.world_size > 1:
            self.accelerator.wait_for_everyone()

    def _save_state_and_seal(self, folder: str, path: str) -> None:
        TrainerState.save_to_json(self.state, path)
        record = {"step": self.state.global_step, "run": self._run_record()}
        if record["run"]["beta"] is not None:
            record["beta_bounds"] = list(self.beta_bounds)
        # Where older checkpoints are about to be deleted, this one must outlast a loss of power.
        seal(folder, record, durable=self.args.save_total_limit is not None)

    def _describe_failed_save(self, folder: str) -> str:
        parent = os.path.dirname(folder)
        kept = newest_whole(parent)[0]
        free = shutil.disk_usage(parent).free / 1e6 if os.path.isdir(parent) else 0.0
        way_out = f"{kept} is whole: train(resume_from_checkpoint=True) goes on from it" if kept else "None is whole"
        return f"The checkpoint {folder} could not be written ({free:,.0f} MB are free there). {way_out}."


class SaveAfterEvaluation(TrainerCallback):
    """Of a last step of an epoch the parent saves first and evaluates then, if it saves by steps and evaluates by
    epochs. A run that resumes there would lack the evaluation and the random numbers it drew."""

    _waits = False

    def on_step_end(self, args, state, control, **kwargs):
        ends = control.should_training_stop or float(state.epoch or 0.5).is_integer()
        by_epochs = args.eval_strategy == IntervalStrategy.EPOCH and not control.should_evaluate
        self._waits = control.should_save and ends and by_epochs
        if self._waits:
            control.should_save = False

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save = control.should_save or self._waits
        self._waits = False
