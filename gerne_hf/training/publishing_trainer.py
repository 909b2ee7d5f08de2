"""`PublishingTrainer`: the first rung above `Trainer`. It pushes to the Hub and hides no push that failed.

Imports `hub/`, `models/`, `reports/` and `utils/`. The next rung is
[`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer).
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar

from accelerate.utils import broadcast_object_list
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import logging

from ..hub.contents import LAST_CHECKPOINT
from ..hub.failures import advice, is_of_the_hub
from ..hub.pushes import PUSHED_FILE, PublishingError, Push, PushLog
from ..hub.uploads import Uploads, uploading_through
from ..models.adapters import hide_base_folder
from ..models.heads import name_labels
from ..models.timm_checkpoints import complete_checkpoint, complete_config, is_timm, write_processor
from ..reports.naming import check_no_other_method

logger = logging.get_logger(__name__)


class PublishingTrainer(Trainer):
    """A [`~transformers.Trainer`] whose pushes are watched, and whose checkpoints name their classes.

    `Trainer` pushes checkpoints in the background and never looks at the outcome. Here a failed push warns at once
    and, unless a later push made up for it, [`PublishingTrainer.check_pushes`] pushes it again after training, waits
    for a Hub that is busy or away, and raises if it is still missing. The last checkpoint, which `Trainer` leaves out
    if the one before is still on its way, is pushed at the end. No checkpoint is left out, or deleted while it is on
    its way, if each is to be kept on the Hub. What is pushed to the repository's root is the model, its processor, its
    card, pictures and JSON ([`left_out`](gerne_hf.hub.contents.left_out)).

    Hooks for subclasses: [`PublishingTrainer.write_reports`], [`PublishingTrainer.class_names`] and
    [`PublishingTrainer.method_names`].
    """

    renamed_hooks: ClassVar[dict[str, str]] = {
        "_write_reports": "write_reports",
        "_run_record": "run_identity",
        "_data_fingerprint": "run_identity",
        "_fields_of_method": "run_identity",
        "_training_groups": "training_groups",
        "_plans_without_attributes": "plans_without_attributes",
        "_build_plan": "make_plan",
        "_class_probabilities": "class_probabilities",
        "_total_loss": "total_loss",
        "_separate": "uses_one_forward",
        "_hidden_columns": "hidden_columns",
    }
    """Private methods and attributes of earlier versions, and the public hooks that have taken their place."""

    hub_model_id: Any
    """Hub id of the repository, `str`; None where nothing was pushed."""
    push_in_progress: Any
    """The pushes of checkpoints that are under way, or None."""

    _left_out: str | None = None
    _root_step: int | None = None
    _resumed_from: str | None = None

    def __init_subclass__(cls, **arguments: Any):
        """Refuse a subclass that overrides a private method which has become a public hook.

        Raises:
            TypeError: names the hook to override instead.
        """
        super().__init_subclass__(**arguments)
        for old, new in cls.renamed_hooks.items():
            if old in vars(cls):
                raise TypeError(
                    f"{cls.__name__} overrides {old}, which nothing calls any more: it has become the public hook "
                    f"{new}. Override {new} instead; its docstring says what it is given and what it returns"
                )

    def write_reports(self, directory: str | None = None) -> None:
        """Write what is to be pushed beside the model, just before a push. This rung writes nothing.

        Args:
            directory (`str`, *optional*): a checkpoint's folder; `output_dir` if not given.
        """

    def class_names(self) -> Sequence[str] | None:
        """Return the names of the classes in the order of their ids; None, as on this rung, if nobody knows them."""
        return None

    def method_names(self) -> Sequence[str]:
        """Return the names of the methods whose models this run may replace in a repository, its own one first.

        None are named on this rung, and then every model is replaced.
        """
        return ()

    @property
    def run_folder(self) -> str:
        """The folder of this run, `output_dir`, which [`~transformers.TrainingArguments`] sets if it is not given."""
        return str(self.args.output_dir)

    @property
    def _push_log(self) -> PushLog:
        return vars(self).setdefault("_pushes", PushLog(os.path.join(self.run_folder, PUSHED_FILE)))

    @property
    def _repo_and_branch(self) -> str:
        return f"{self._uploads.repo_id}@{self.args.hub_revision or 'main'}"

    def begin_pushes(self, checkpoint: str | None) -> None:
        """Take note of where training begins; [`ResumableTrainer`] calls this before each training on all processes.

        A push of the checkpoint that a run resumes from may have been cut off; [`PublishingTrainer.check_pushes`]
        makes up for it, unless a later push has.

        Args:
            checkpoint (`str`, *optional*): the folder of the checkpoint; None for training anew.
        """
        self._resumed_from = checkpoint
        if self.args.push_to_hub and self.is_world_process_zero():
            self._push_log.forget_after(-1 if checkpoint is None else _step_of(checkpoint))

    def _make_up_for_cut_off(self) -> None:
        """Push the checkpoint that this run resumed from, if neither it nor a later one has reached the Hub."""
        folder, strategy = self._resumed_from, HubStrategy(self.args.hub_strategy)
        if folder is None or strategy == HubStrategy.END or not self.args.push_to_hub or not os.path.isdir(folder):
            return
        step, name, log = _step_of(folder), os.path.basename(os.path.abspath(folder)), self._push_log
        by_strategy = {HubStrategy.CHECKPOINT: LAST_CHECKPOINT, HubStrategy.ALL_CHECKPOINTS: name}
        places = ["", by_strategy[strategy]] if strategy in by_strategy else [""]
        owed = [place for place in places if log.pushed_step(self._repo_and_branch, place) < step]
        if not owed:
            return
        logger.info(f"The push of {folder} was cut off or has failed. It is pushed again.")
        if "" in owed:
            self._push_from_checkpoint(folder)
        else:  # a later model is there, and only the checkpoint is not
            job = self._uploads.upload_folder(
                folder_path=folder,
                path_in_repo=name,
                commit_message=f"Training in progress, step {step}, checkpoint",
                revision=self.args.hub_revision,
                run_as_future=True,
            )
            log.watch(Push(folder, name, step, repo=self._repo_and_branch), job)
        super()._finish_current_push()
        log.wait()

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository as `Trainer` does, and make sure that it can be written to.

        `Trainer` is content with a repository that can be read. A branch `hub_revision` is made if there is none.
        Where the Hub does not answer, or is a mirror, a warning says so and training goes on.

        Raises:
            HfHubHTTPError: if the Hub refuses the token (401, 403); a note says what to do.
            ValueError: if the repository holds a model of another method, unless `hub_overwrite` is set.
        """
        args = self.args
        self._uploads = Uploads(
            args.hub_model_id or os.path.basename(os.path.abspath(self.run_folder)),
            token=token if token is not None else args.hub_token,
            private=private if private is not None else args.hub_private_repo,
            revision=args.hub_revision,
            patience=getattr(args, "hub_patience", 0.0),
            with_training_args=self._with_training_args,
            keeps_last_checkpoint=args.hub_strategy == HubStrategy.CHECKPOINT,
            check=None if getattr(args, "hub_overwrite", True) else self._check_published,
        )
        with uploading_through(lambda: self._uploads):
            super().init_hf_repo(token, private)

    _uploads: Uploads

    @property
    def _with_training_args(self) -> bool:
        return bool(getattr(self.args, "hub_training_args", False))

    def _check_published(self, record: dict[str, Any] | None) -> None:
        """Refuse to take the place of a model of another method."""
        names = list(self.method_names())
        if names:
            check_no_other_method(record, names, self._uploads.repo_id)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does, with the names of its classes.

        A model of timm is saved so that plain timm loads it, too.
        """
        name_labels(self.model, self.class_names())
        model = self.accelerator.unwrap_model(self.model)
        if is_timm(model):
            complete_config(model, self.processing_class)
        super().save_model(output_dir, _internal_call)
        if self.hub_model_id is not None and self.args.should_save:
            hide_base_folder(output_dir or self.run_folder)
        if is_timm(model) and self.args.should_save:
            complete_checkpoint(output_dir or self.run_folder, self.processing_class)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Push `output_dir` as `Trainer` does, with the reports as they are now.

        Returns:
            `huggingface_hub.CommitInfo`: the commit, or with `blocking=False` a `Future` of it.

        Raises:
            Exception: whatever made the push fail; a note says how to push again.
        """
        push = Push(self.run_folder, "", self.state.global_step)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self.write_reports()
        try:
            with uploading_through(lambda: self._uploads):
                commit = super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)
        except Exception as error:
            if self.hub_model_id is not None:
                command = self._command(push, revision)
                error.add_note(f"{advice(error)}. What was saved is kept in {push.folder}. Push it with\n  {command}")
            raise
        if isinstance(commit, Future):
            self._push_log.watch(push, commit)
        elif commit is not None:
            self._push_log.made_up_for("")
            if revision in (None, self.args.hub_revision):
                self._push_log.keep(replace(push, repo=self._repo_and_branch))
        return commit

    def _command(self, push: Push, revision: str | None = None) -> str:
        """Return the command line that does a push again."""
        return push.command(self._uploads.repo_id, revision or self.args.hub_revision, self._with_training_args)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint as `Trainer` does, with the reports, and watch the uploads."""
        args = self.args
        if self.state.is_hyper_param_search:
            return  # a trial's model is no outcome
        self._root_step = step = _step_of(checkpoint_folder)
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        folders = args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)
        rotated = folders and args.save_total_limit is not None
        if rotated or (args.hub_strategy == HubStrategy.ALL_CHECKPOINTS and not args.hub_always_push):
            super()._finish_current_push()
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not args.hub_always_push:
            self._left_out = checkpoint_folder
            logger.info(f"{checkpoint_folder} is not pushed: the push before it is still on its way.")
            return
        self._left_out = None
        self.hub_model_id = self._uploads.repo_id
        self.write_reports()
        write_processor(self.run_folder, self.processing_class)
        if folders:
            self.write_reports(checkpoint_folder)
        known: list[Future] = [] if self.push_in_progress is None else list(self.push_in_progress.jobs)
        with uploading_through(lambda: self._uploads):
            super()._push_from_checkpoint(checkpoint_folder)
        jobs = [job for job in self.push_in_progress.jobs if job not in known]
        latest = args.hub_strategy == HubStrategy.CHECKPOINT
        name = LAST_CHECKPOINT if latest else os.path.basename(checkpoint_folder)
        for (folder, place), job in zip([(self.run_folder, ""), (checkpoint_folder, name)], jobs, strict=False):
            self._push_log.watch(Push(folder, place, step, repo=self._repo_and_branch), job)
        if rotated and args.save_total_limit == 1:  # Trainer may delete the folder before it waits for the push
            super()._finish_current_push()

    def _finish_current_push(self) -> None:
        """Wait for the push that is under way as `Trainer` does, then push the last checkpoint if it was left out."""
        super()._finish_current_push()
        folder, self._left_out = self._left_out, None
        if folder is None:
            return
        if os.path.isdir(folder):
            self._push_from_checkpoint(folder)
            super()._finish_current_push()
        else:
            logger.warning(
                f"{folder} was not pushed, the push before it being on its way, and save_total_limit="
                f"{self.args.save_total_limit} has deleted it: the Hub holds an older model. `trainer.push_to_hub()` "
                "pushes the one at hand."
            )

    def check_pushes(self) -> None:
        """Wait for the pushes, and push again what is missing; [`GerneTrainer.train`] ends with this.

        A push that was cut off when the run was killed is made up for, if the run resumed from its checkpoint.

        Raises:
            PublishingError: on every process, if the Hub still lacks something that was to be pushed; the message says
                what is kept where, and how to push it again.
        """
        message = None
        if self.hub_model_id is not None and self.is_world_process_zero():
            self._finish_current_push()
            self._push_log.wait()
            self._make_up_for_cut_off()
        if self.args.push_to_hub and self.args.world_size > 1:  # all processes go on to the next push, or none
            (self._root_step,) = broadcast_object_list([self._root_step])
        self._push_selected()
        if self.hub_model_id is not None and self.is_world_process_zero():
            missing = [push for push in self._push_log.missing() if not self._pushed_again(push)]
            self.hub_model_id = self._uploads.repo_id
            message = self._describe(missing) if missing else None
        if self.args.push_to_hub and self.args.world_size > 1:
            (message,) = broadcast_object_list([message])
        if message is not None:
            raise PublishingError(message)

    def _push_selected(self) -> None:
        """Push the model that was selected, if the last one that was pushed to the repository's root is another."""
        args, best = self.args, self.state.best_global_step
        pushes = args.push_to_hub and args.hub_strategy != HubStrategy.END and args.load_best_model_at_end
        if not pushes or best is None or best == self._root_step:
            return
        try:
            self.push_to_hub(f"Selected model of step {best}")
        except Exception as error:
            if not is_of_the_hub(error):
                raise
            self._push_log.note_failed(Push(self.run_folder, "", best, error))

    def _pushed_again(self, push: Push) -> bool:
        """Push again what the Hub lacks, and wait for the Hub; return whether it is there now."""
        if not self._uploads.patience or not os.path.isdir(push.folder):
            return False
        try:
            self._uploads.upload_folder(
                folder_path=push.folder,
                path_in_repo=push.path_in_repo or None,
                commit_message=f"Pushed again: {push}",
                revision=self.args.hub_revision,
            )
        except Exception as error:
            push.error = error
            self._uploads.patience = 0.0  # it has waited long enough
            return False
        self._push_log.made_up_for(push.path_in_repo)
        self._push_log.keep(push)
        return True

    def _describe(self, missing: list[Push]) -> str:
        """Say what the Hub lacks, why, and how to push each part of it again."""
        lines = [f"training ended and all of it is saved, but {self.hub_model_id} on the Hub lacks"]
        for push in missing:
            lines.append(f"- {push}: {push.reason}")
            if os.path.isdir(push.folder):
                lines += [f"  It is kept in {push.folder}. Push it again with", f"  {self._command(push)}"]
            else:
                lines.append(f"  Its folder {push.folder} is gone: save_total_limit={self.args.save_total_limit}")
        reasons = dict.fromkeys(advice(push.error) for push in missing)
        return "\n".join([*lines, f"{'. '.join(reasons)}. `trainer.push_to_hub()` pushes the model, too."])


def _step_of(checkpoint: str) -> int:
    """Return the step of a checkpoint as its folder's name has it; 0 for a folder with another name."""
    step = os.path.basename(os.path.abspath(checkpoint)).removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
    return int(step) if step.isdecimal() else 0
