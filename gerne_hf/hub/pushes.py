"""Uploads to the Hub during and after training, of which none fails unnoticed.

Imports [`contents`](gerne_hf.hub.contents), [`failures`](gerne_hf.hub.failures) and `utils/`. The trainer that uploads
is in [`publishing_trainer`](gerne_hf.training.publishing_trainer).
"""

import json
import os
import shlex
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from ..utils.files import write_json
from .contents import left_out
from .failures import advice, reason

logger = logging.get_logger(__name__)

PUSHED_FILE = "_pushed.json"
"""The file in `output_dir` that keeps, by repository and place in it, the step that was pushed last."""


class PublishingError(RuntimeError):
    """Raised if the Hub lacks something that was to be pushed to it.

    It is raised after training, when everything is saved on the local disk.
    """


@dataclass
class Push:
    """One upload of a folder to the Hub.

    Args:
        folder (`str`): the local folder; kept as an absolute path.
        path_in_repo (`str`): the folder it becomes in the repository; empty for the repository's root.
        step (`int`): how many optimizer steps the pushed model has been trained for.
        error (`BaseException`, *optional*): why the upload failed; None while it runs and where it ended well.
        repo (`str`, *optional*): the repository and its branch, by which [`PushLog`] keeps what was pushed.
    """

    folder: str
    path_in_repo: str
    step: int
    error: BaseException | None = None
    repo: str | None = None

    def __post_init__(self) -> None:
        self.folder = os.path.abspath(self.folder)

    def __str__(self) -> str:
        return f"{self.path_in_repo or 'the model'} of step {self.step}"

    @property
    def reason(self) -> str:
        """The error and its cause in one line, without tracebacks; empty where there is no error."""
        return reason(self.error)

    def command(self, repo_id: str, revision: str | None, with_training_args: bool = False) -> str:
        """Return the shell command that pushes the folder again.

        Args:
            repo_id (`str`): the repository, `OWNER/NAME`.
            revision (`str`, *optional*): the branch; None for the default one.
            with_training_args (`bool`, *optional*, defaults to `False`): whether `training_args.bin` is published.

        Returns:
            `str`: quoted for the shell. A push to the repository's root leaves out what
            [`left_out`](gerne_hf.hub.contents.left_out) says.

        Example:

        ```python
        >>> Push("/runs/bird model", "checkpoint-20", step=20).command("me/birds", None)
        "hf upload me/birds '/runs/bird model' checkpoint-20"

        ```
        """
        words = ["hf", "upload", repo_id, self.folder, self.path_in_repo or "."]
        for pattern in () if self.path_in_repo else left_out(self.folder, with_training_args):
            words += ["--exclude", pattern]
        return shlex.join([*words, *(["--revision", revision] if revision else [])])


class PushLog:
    """Follows uploads that run in the background: warns when one fails, and knows what the Hub lacks.

    Its methods may be called from any thread.

    Args:
        file (`str`, *optional*): where it is kept which steps were pushed, for a process that goes on after a kill.
    """

    def __init__(self, file: str | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._running: list[tuple[Push, Future[Any]]] = []
        self._failed: dict[str, Push] = {}

    def watch(self, push: Push, job: Future[Any]) -> None:
        """Follow an upload until it ends.

        Args:
            push ([`Push`]): what is uploaded; its `error` is filled in if the upload fails.
            job (`Future`): the running upload, as `HfApi.upload_folder(..., run_as_future=True)` returns it.
        """
        with self._lock:
            self._running.append((push, job))
        job.add_done_callback(lambda job: self.missing())

    def made_up_for(self, path_in_repo: str) -> None:
        """Forget a failed upload, because the same place in the repository has been written by other means.

        Args:
            path_in_repo (`str`): the place, as in [`Push`].
        """
        with self._lock:
            self._failed.pop(path_in_repo, None)

    def note_failed(self, push: Push) -> None:
        """Remember an upload that has failed in the foreground, as [`PushLog.missing`] returns it.

        Args:
            push ([`Push`]): what was uploaded, with its error.
        """
        with self._lock:
            self._failed[push.path_in_repo] = push

    def pushed_step(self, repo: str, path_in_repo: str) -> int:
        """Return the step of what was pushed last to a place, by this process or one before it; -1 if nothing was.

        Args:
            repo (`str`), path_in_repo (`str`): the place, as in [`Push`].
        """
        return self._kept().get(repo, {}).get(path_in_repo, -1)

    def keep(self, push: Push) -> None:
        """Keep on the disk that an upload ended well.

        Args:
            push ([`Push`]): the upload.
        """
        if self._file is None or push.repo is None:
            return
        kept = self._kept()
        kept.setdefault(push.repo, {})[push.path_in_repo] = push.step
        write_json(kept, self._file)

    def forget_after(self, step: int) -> None:
        """Forget on the disk what was pushed of later steps, as a run is about to take them anew.

        Args:
            step (`int`): the step that training begins at; with -1 all is forgotten.
        """
        kept = self._kept()
        earlier = {repo: {place: of for place, of in places.items() if of <= step} for repo, places in kept.items()}
        if self._file is not None and earlier != kept:
            write_json(earlier, self._file)

    def _kept(self) -> dict[str, dict[str, int]]:
        """Return what the file says, by repository and place; a file that is damaged says nothing was pushed."""
        try:
            with open(str(self._file), encoding="utf-8") as file:
                kept = json.load(file)
            return {repo: {place: int(step) for place, step in places.items()} for repo, places in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def wait(self) -> None:
        """Wait until all uploads that are being followed have ended, well or not."""
        with self._lock:
            jobs = [job for _, job in self._running]
        wait(jobs)

    def missing(self) -> list[Push]:
        """Return the failed uploads whose place in the repository no later upload has written. Warn of each once.

        Returns:
            `list[Push]`: with their errors.
        """
        with self._lock:
            ended = [(push, job) for push, job in self._running if job.done()]
            self._running = [(push, job) for push, job in self._running if not job.done()]
            for push, job in ended:
                push.error = InterruptedError("cancelled") if job.cancelled() else job.exception()
                if push.error is None:
                    self._failed.pop(push.path_in_repo, None)
                    self.keep(push)
                    continue
                self._failed[push.path_in_repo] = push
                logger.warning(
                    f"Pushing {push} to the Hub FAILED ({push.reason}). {advice(push.error)}. Training goes on; the "
                    f"files are kept in {push.folder}. After training an error says what is still missing."
                )
            return list(self._failed.values())
