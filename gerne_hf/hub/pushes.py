"""Pushing to the Hub during and after training: what is pushed carries its group metrics, and no failure is hidden."""

import os
import shlex
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass

from huggingface_hub.errors import HfHubHTTPError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

logger = logging.get_logger(__name__)

NOT_PUSHED = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*")
"""What the Trainer leaves out of a push of `output_dir`."""


class PublishingError(RuntimeError):
    """Raised after training, when everything local is saved, if the Hub lacks something that it was to have."""


@dataclass
class Push:
    """An upload to the Hub.

    Args:
        folder (`str`): the local folder.
        path_in_repo (`str`): where it goes; empty for the root.
        step (`int`): optimizer steps done.
        error (`BaseException`, *optional*): why it failed.
    """

    folder: str
    path_in_repo: str
    step: int
    error: BaseException | None = None

    def __post_init__(self):
        self.folder = os.path.abspath(self.folder)

    def __str__(self) -> str:
        return f"{self.path_in_repo or 'the model'} of step {self.step}"

    @property
    def reason(self) -> str:
        """The error and what caused it, a line each, without the tracebacks."""
        error, reasons = self.error, []
        while error is not None and len(reasons) < 2:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reasons.append(": ".join([type(error).__name__, " ".join(lines[:2])]))
            error = error.__cause__ if not isinstance(error, HfHubHTTPError) else None
        return "; caused by ".join(reasons)

    def command(self, repo_id: str, revision: str | None) -> str:
        """The shell command that pushes the folder again."""
        words = ["hf", "upload", repo_id, self.folder, self.path_in_repo or "."]
        for pattern in () if self.path_in_repo else NOT_PUSHED:
            words += ["--exclude", pattern]
        return shlex.join([*words, *(["--revision", revision] if revision else [])])


class PushLog:
    """Watches uploads that run in the background: warns when one fails, and knows what the Hub lacks."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: list[tuple[Push, Future]] = []
        self._failed: dict[str, Push] = {}

    def watch(self, push: Push, job: Future) -> None:
        with self._lock:
            self._running.append((push, job))
        job.add_done_callback(lambda job: self.missing())

    def made_up_for(self, path_in_repo: str) -> None:
        with self._lock:
            self._failed.pop(path_in_repo, None)

    def wait(self) -> None:
        with self._lock:
            jobs = [job for _, job in self._running]
        wait(jobs)

    def missing(self) -> list[Push]:
        """Failed pushes for which no later one has made up. Warns of each failure once."""
        with self._lock:
            ended = [(push, job) for push, job in self._running if job.done()]
            self._running = [(push, job) for push, job in self._running if not job.done()]
            for push, job in ended:
                push.error = InterruptedError("cancelled") if job.cancelled() else job.exception()
                if push.error is None:
                    self._failed.pop(push.path_in_repo, None)
                    continue
                self._failed[push.path_in_repo] = push
                logger.warning(
                    f"Pushing {push} to the Hub FAILED ({push.reason}). Training goes on; the files are kept in "
                    f"{push.folder}."
                )
            return list(self._failed.values())
