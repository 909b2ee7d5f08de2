"""Uploads of models to one repository: what is left out, what waits for a Hub that is busy, what is refused.

Imports the other modules of this room. `training/publishing_trainer.py` lets Trainer upload through this, and
`comparison/publishing.py` pushes the outcome of a comparison with it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import transformers.trainer
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError
from transformers.utils import logging

from .contents import LAST_CHECKPOINT, PASSING, STALE, holds_weights, left_out
from .failures import advice, is_of_the_hub, is_unknown_route, patiently, reason, refuses

logger = logging.get_logger(__name__)

RECORD_FILE = "group_metrics.json"
"""The file of a repository that says which method its model was trained by."""


class Uploads:
    """One repository on the Hub, or a branch of it, and uploads to it. Trainer uses it as a `HfApi`.

    The repository is made when it is first needed. What must not be there is refused before anything is written:
    `check` is called with the `group_metrics.json` of the model that the repository holds already.

    Args:
        name (`str`): `NAME`, for a repository of the token's owner, or `OWNER/NAME`.
        token (`str`, *optional*): a token with write access; the one that is logged in if not given.
        private (`bool`, *optional*): whether a new repository is private; the owner's default if not given.
        revision (`str`, *optional*): a branch, made if there is none, or a pull request `refs/pr/N`; the default
            branch if not given.
        patience (`float`, *optional*, defaults to `0.0`): seconds that an upload in the foreground waits for.
        with_training_args (`bool`, *optional*, defaults to `False`): whether `training_args.bin` is published.
        keeps_last_checkpoint (`bool`, *optional*, defaults to `False`): whether `last-checkpoint`, if an earlier run
            has left it in the repository, stays there.
        check (`Callable`, *optional*): is given the record of the model that is there, None if it has none; raises an
            error if no other model may take its place.
    """

    def __init__(
        self,
        name: str,
        token: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        patience: float = 0.0,
        with_training_args: bool = False,
        keeps_last_checkpoint: bool = False,
        check: Callable[[dict[str, Any] | None], None] | None = None,
    ):
        self.api = HfApi(token=token, library_name="gerne_hf")
        self.repo_id, self.revision, self.private, self.patience = name, revision, private, patience
        self.with_training_args, self.keeps_last_checkpoint = with_training_args, keeps_last_checkpoint
        self.check = check
        self.ready = False

    def __getattr__(self, name: str) -> Any:
        """Whatever else Trainer may ask of a `HfApi`."""
        return getattr(self.api, name)

    def create_repo(self, repo_id: str, **given: Any) -> Any:
        """Make the repository if the Hub answers; refuse at once what can never be pushed to. For `Trainer`.

        Args:
            repo_id (`str`): the name, as it was given before.
            given: what `Trainer` says besides.

        Returns:
            An object with the `repo_id` of the repository, without its owner where the Hub did not answer.

        Raises:
            HfHubHTTPError: if the Hub refuses the token (401, 403); a note says what to do.
            ValueError: if the repository holds a model that no other may take the place of.
        """
        try:
            self.prepare()
        except Exception as error:
            if refuses(error):
                error.add_note(f"The repository {repo_id!r} cannot be made or written to. {advice(error)}.")
            if refuses(error) or not is_of_the_hub(error):
                raise
            logger.warning(
                f"The repository {repo_id!r} on the Hub cannot be made ready now ({reason(error)}). {advice(error)}. "
                "Training goes on, each push tries again, and nothing is lost if none succeeds: after training an "
                "error says what the Hub lacks and which command pushes it."
            )
        return SimpleNamespace(repo_id=self.repo_id)

    def prepare(self) -> None:
        """Make the repository and its branch, and see whether they can be written to and what they hold.

        Raises:
            HfHubHTTPError, httpx.HTTPError: if they cannot be made or written to.
            ValueError: as `check`.
        """
        if self.ready:
            return
        try:
            self.repo_id = self.api.create_repo(self.repo_id, private=self.private, exist_ok=True).repo_id
        except Exception as error:
            if not (is_unknown_route(error) and "/" in self.repo_id):
                raise
            logger.warning(f"Whether there is a repository {self.repo_id!r} cannot be known. {advice(error)}.")
        pull_request = (self.revision or "").startswith("refs/")  # open to people who may write nowhere else
        if not pull_request:
            try:
                self.api.auth_check(self.repo_id, write=True)
            except Exception as error:
                if not is_unknown_route(error):
                    raise
                logger.warning(f"Whether {self.repo_id} can be written to is not known. {advice(error)}.")
        try:
            files = self.api.list_repo_files(self.repo_id, revision=self.revision)
        except RevisionNotFoundError:
            if self.revision is None or pull_request:
                raise
            self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True)
            files = []  # what the new branch begins with is that of another branch
        except Exception as error:
            if not is_unknown_route(error):
                raise
            files = []
        if self.check is not None and holds_weights(files):
            self.check(self._record() if RECORD_FILE in files else None)
        self.ready = True

    def _record(self) -> dict[str, Any] | None:
        """Return what the repository's `group_metrics.json` holds; None if it is no JSON object."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.api.hf_hub_download(self.repo_id, RECORD_FILE, revision=self.revision, local_dir=folder)
            with open(path, encoding="utf-8") as file:
                try:
                    record = json.load(file)
                except ValueError:
                    return None
        return record if isinstance(record, dict) else None

    def upload_folder(self, *, run_as_future: bool = False, **given: Any) -> Any:
        """Upload a folder, as [`~huggingface_hub.HfApi.upload_folder`] does, without what is not to be published.

        Args:
            run_as_future (`bool`, *optional*, defaults to `False`): whether to upload in the background. Only an
                upload in the foreground waits and tries again where the Hub is busy or away.
            given: arguments of `upload_folder`. What a folder that becomes the repository's root leaves out is decided
                here, and what an earlier push has left there is deleted.

        Returns:
            `huggingface_hub.CommitInfo`, or a `Future` of it.

        Raises:
            Exception: whatever made the upload fail.
        """
        if run_as_future:
            job: Future[Any] = self.api.run_as_future(self._upload, **given)
            return job
        place = given.get("path_in_repo") or "the model"
        return patiently(
            lambda: self._upload(**given),
            self.patience,
            lambda message: logger.warning(f"Pushing {place} to {self.repo_id} on the Hub waits: {message}."),
        )

    def _upload(self, **given: Any) -> Any:
        self.prepare()
        given["repo_id"] = self.repo_id
        if not given.get("path_in_repo"):
            ignored = left_out(os.fspath(given["folder_path"]), self.with_training_args)
            given["ignore_patterns"] = [*ignored, *(name for name in PASSING if name not in ignored)]
            kept = [] if self.keeps_last_checkpoint else [f"{LAST_CHECKPOINT}/*"]
            given["delete_patterns"] = [*STALE, *kept]
        return self.api.upload_folder(**given)


@contextmanager
def uploading_through(uploads: Callable[[], Uploads]) -> Iterator[None]:
    """Let `Trainer` use something else in place of the `HfApi` that it shares with all of Transformers.

    `Trainer` says itself what is left out of a push, and takes no other patterns.

    Args:
        uploads (`Callable`): returns what `Trainer` uses within the `with` block.
    """
    shared = transformers.trainer.hf_api
    vars(transformers.trainer)["hf_api"] = uploads
    try:
        yield
    finally:
        vars(transformers.trainer)["hf_api"] = shared
