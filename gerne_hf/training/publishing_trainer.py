"""Pushing to the Hub during and after training."""

import os
from concurrent.futures import Future
from contextlib import suppress

from accelerate.utils import broadcast_object_list
from huggingface_hub import CommitInfo, auth_check, create_branch
from huggingface_hub.errors import HfHubHTTPError
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import HubStrategy

from ..hub.pushes import PublishingError, Push, PushLog, logger
from ..hub.repositories import RIGHTS
from ..models.heads import name_labels
from ..models.timm_checkpoints import complete_checkpoint, complete_config, is_timm, write_processor
from ..reports.record import GROUP_METRICS_FILE, TRAINING_PICTURE_FILE, save_group_metrics


class PublishingMixin:
    """The publishing half of [`GerneTrainer`]; goes before `Trainer` in the bases.

    The parent pushes checkpoints in the background and never looks at the outcome. Here a failed push warns at once
    and, unless a later push made up for it, [`check_pushes`] raises after training. The last checkpoint, which the
    parent leaves out if the one before is still on its way, is pushed at the end; and no checkpoint is left out or
    deleted while it is on its way if each is to be kept on the Hub.
    """

    _left_out: str | None = None

    @property
    def _push_log(self) -> PushLog:
        return vars(self).setdefault("_pushes", PushLog())

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """The parent's; a repository that is there already must be one that can be written to, and `hub_revision` is
        made too, if there is no such branch."""
        try:
            super().init_hf_repo(token, private)
            revision = self.args.hub_revision
            if not self.is_world_process_zero() or (revision or "").startswith("refs/"):
                return  # a pull request is open to people who may write nowhere else
            token = token if token is not None else self.args.hub_token
            auth_check(self.hub_model_id, token=token, write=True)  # the parent is content if it can be read
            if revision is not None:
                create_branch(self.hub_model_id, branch=revision, token=token, exist_ok=True)
        except HfHubHTTPError as error:
            repo = self.args.hub_model_id or os.path.basename(os.path.abspath(self.args.output_dir))
            error.add_note(f"The repository {repo!r} cannot be made or written to. {RIGHTS}; or set hub_model_id.")
            raise

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The parent's; the saved model names its classes, and one of timm can be loaded by plain timm."""
        name_labels(self.model, self.groups)
        model = self.accelerator.unwrap_model(self.model)
        if is_timm(model):
            complete_config(model, self.processing_class)
        super().save_model(output_dir, _internal_call)
        if is_timm(model) and self.args.should_save:
            complete_checkpoint(output_dir or self.args.output_dir, self.processing_class)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs,
    ) -> CommitInfo | Future:
        """The parent's, with the group metrics and the picture as they are now. An error says how to push again."""
        self._write_reports()
        push = Push(self.args.output_dir, "", self.state.global_step)
        try:
            commit = super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)
        except Exception as error:
            if self.hub_model_id is not None:
                command = push.command(self.hub_model_id, revision or self.args.hub_revision)
                error.add_note(f"What was saved is kept in {push.folder}. Push it again with\n  {command}\n{RIGHTS}.")
            raise
        if isinstance(commit, Future):
            self._push_log.watch(push, commit)
        elif commit is not None:
            self._push_log.made_up_for("")
        return commit

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """The parent's, with the group metrics, and watched."""
        args = self.args
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
        self._write_reports()
        write_processor(args.output_dir, self.processing_class)
        if folders:
            save_group_metrics(self, checkpoint_folder)
        known = [] if self.push_in_progress is None else list(self.push_in_progress.jobs)
        super()._push_from_checkpoint(checkpoint_folder)
        jobs = [job for job in self.push_in_progress.jobs if job not in known]
        latest = args.hub_strategy == HubStrategy.CHECKPOINT
        name = "last-checkpoint" if latest else os.path.basename(checkpoint_folder)
        for (folder, place), job in zip([(args.output_dir, ""), (checkpoint_folder, name)], jobs, strict=False):
            self._push_log.watch(Push(folder, place, self.state.global_step), job)
        if rotated and args.save_total_limit == 1:  # the parent may delete the folder before it waits for the push
            super()._finish_current_push()

    def _finish_current_push(self) -> None:
        """The parent's, and then the last checkpoint if it was left out."""
        super()._finish_current_push()
        if self.hub_model_id is not None and self.args.should_save:
            # A pickle that nobody reads. No upload is under way here that could find its file gone.
            with suppress(FileNotFoundError):
                os.remove(os.path.join(self.args.output_dir, TRAINING_ARGS_NAME))
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

    def _write_reports(self) -> None:
        """Bring the group metrics and the picture in `output_dir` up to date, if this trainer has anything new."""
        directory, news = self.args.output_dir, self.group_results or self.state.log_history
        if news or not os.path.exists(os.path.join(directory, GROUP_METRICS_FILE)):
            save_group_metrics(self)
        try:
            from ..reports.plots import plot_training
        except ImportError:
            return
        if self.args.should_save and self.state.log_history:
            plot_training(self.state.log_history, os.path.join(directory, TRAINING_PICTURE_FILE))

    def check_pushes(self) -> None:
        """Wait for the pushes and look at their outcome; [`GerneTrainer.train`] ends with this.

        Raises:
            PublishingError: on every process, if the Hub lacks something that was to be pushed; the message says
                what is kept where, and how to push it again.
        """
        message = None
        if self.hub_model_id is not None and self.is_world_process_zero():
            self._finish_current_push()
            self._push_log.wait()
            missing = self._push_log.missing()
            message = self._describe(missing) if missing else None
        if self.args.push_to_hub and self.args.world_size > 1:
            (message,) = broadcast_object_list([message])
        if message is not None:
            raise PublishingError(message)

    def _describe(self, missing: list[Push]) -> str:
        lines = [f"training ended and all of it is saved, but {self.hub_model_id} on the Hub lacks"]
        for push in missing:
            lines.append(f"- {push}: {push.reason}")
            if os.path.isdir(push.folder):
                command = push.command(self.hub_model_id, self.args.hub_revision)
                lines += [f"  It is kept in {push.folder}. Push it again with", f"  {command}"]
            else:
                lines.append(f"  Its folder {push.folder} is gone: save_total_limit={self.args.save_total_limit}")
        return "\n".join([*lines, f"{RIGHTS}. `trainer.push_to_hub()` pushes the model, too."])
