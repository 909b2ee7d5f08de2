"""What a comparison pushes to the Hub: its outcome, once, at its end. Other runs than the main one never push.

Imports `hub/`, `reports/` and [`methods`](gerne_hf.comparison.methods). [`comparing`](gerne_hf.comparison.comparing)
asks before it trains anything, and pushes when all is written.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..config import GerneConfig
from ..hub.failures import advice
from ..hub.pushes import PublishingError, Push
from ..hub.uploads import Uploads
from ..reports.naming import check_no_other_method, method_name
from ..reports.record import RunRecord
from .judging import BALANCED, INFERRED
from .methods import METHODS

logger = logging.get_logger(__name__)


def pushes_by_itself(config: GerneConfig, name: str) -> bool:
    """Return whether the main run of a comparison pushes while it is trained, as `hub_strategy` says.

    It does not with the strategy "end". Nor does it where its model may not be the outcome: a gate decides about
    inferred groups after the training, and some methods change the model of another one.

    Args:
        config ([`GerneConfig`]): the common settings.
        name (`str`): the main method.
    """
    settled = name != INFERRED and METHODS[name].start is None and METHODS[name].finish is None
    return config.push_to_hub and config.hub_strategy != HubStrategy.END and settled


class Publication:
    """The repository that a comparison is pushed to. It is made, and looked at, before anything is trained.

    All processes call its methods; the main one talks to the Hub.

    Args:
        config ([`GerneConfig`]): the common settings, with `push_to_hub`.
        name (`str`): the main method.
        runs (`Sequence[GerneConfig]`): the settings of the runs whose models may be the outcome, the main run first.

    Raises:
        HfHubHTTPError: if the Hub refuses the token (401, 403).
        ValueError: if the repository holds a model of another method, unless `hub_overwrite` is set.
    """

    def __init__(self, config: GerneConfig, name: str, runs: Sequence[tuple[str, GerneConfig]]):
        self.config = config
        names = [
            method_name(METHODS[method].trainer.__name__, run.plan, run.class_balanced, run.pseudo_attributes)
            for method, run in runs
        ]
        self._uploads = Uploads(
            config.hub_model_id or os.path.basename(os.path.abspath(config.folder)),
            token=config.hub_token,
            private=config.hub_private_repo,
            revision=config.hub_revision,
            patience=config.hub_patience,
            with_training_args=config.hub_training_args,
            keeps_last_checkpoint=pushes_by_itself(config, name) and config.hub_strategy == HubStrategy.CHECKPOINT,
            check=None if config.hub_overwrite else lambda record: self._check(record, names),
        )
        self._on_main_process(lambda: self._uploads.create_repo(self._uploads.repo_id))
        if config.hub_strategy != HubStrategy.END and not pushes_by_itself(config, name):
            PartialState().print(
                f"hub_strategy={str(HubStrategy(config.hub_strategy).value)!r} is taken as 'end': what the model of "
                f"{METHODS[name].title} is going to be is known at the end of the comparison."
            )

    def _check(self, record: dict[str, Any] | None, names: list[str]) -> None:
        check_no_other_method(record, names, self._uploads.repo_id)

    def _on_main_process(self, call: Any) -> None:
        """Call a function on the main process, and raise its error on all of them."""
        error: Exception | None = None
        if PartialState().is_main_process:
            try:
                call()
            except Exception as raised:
                error = raised
        text: str | None = None if error is None else f"{type(error).__name__}: {error}"
        (text,) = broadcast_object_list([text])
        if error is not None:
            raise error
        if text is not None:
            raise PublishingError(f"the main process has raised {text}")

    def placed(self, record: RunRecord) -> RunRecord:
        """Return a record with the place on the Hub that its model is pushed to.

        Args:
            record ([`RunRecord`]): the outcome's.
        """
        run = replace(record.run, hub_id=self._uploads.repo_id, hub_revision=self.config.hub_revision)
        return replace(record, run=run)

    def push(self, steps: int) -> None:
        """Push the output folder, and wait for a Hub that is busy or away.

        Args:
            steps (`int`): how many steps the model was trained for.

        Raises:
            PublishingError: if it cannot be pushed; says why, and the command that does it.
        """
        self._on_main_process(lambda: self._push(Push(self.config.folder, "", steps)))

    def _push(self, push: Push) -> None:
        revision = self.config.hub_revision
        try:
            commit = self._uploads.upload_folder(
                folder_path=push.folder, commit_message="End of training", revision=revision
            )
        except Exception as error:
            push.error = error
            command = push.command(self._uploads.repo_id, revision, self.config.hub_training_args)
            raise PublishingError(
                f"the comparison has ended and all of it is saved, but {self._uploads.repo_id} on the Hub lacks its "
                f"outcome: {push.reason}. {advice(error)}. It is kept in {push.folder}. Push it with\n  {command}"
            ) from error
        print(f"Pushed to {commit.commit_url}", flush=True)


def publication(
    config: GerneConfig, methods: Sequence[str], runs: dict[tuple[str, int], GerneConfig], seed: int
) -> Publication | None:
    """Return where a comparison is pushed to; None unless it is to be pushed.

    Args:
        config ([`GerneConfig`]): the common settings.
        methods (`Sequence[str]`): names of methods, the main one last.
        runs (`dict`): the settings of all runs by method and seed.
        seed (`int`): the seed of the main run.

    Raises:
        HfHubHTTPError, ValueError: as [`Publication`].
    """
    if not config.push_to_hub:
        return None
    main = methods[-1]
    names = [main, BALANCED] if main == INFERRED else [main]
    return Publication(config, main, [(name, runs[name, seed]) for name in names if (name, seed) in runs])
