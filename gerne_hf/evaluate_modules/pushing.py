"""Pushing the metric `group_accuracy` to the Hub as a Space, where `evaluate.load` finds it by its id.

Imports `hub/`. The command line is in [`__main__`](gerne_hf.evaluate_modules.__main__).
"""

from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

from ..hub.repositories import RIGHTS, explained, make_repository

GROUP_ACCURACY_PATH = str(Path(__file__).parent / "group_accuracy")
"""Folder of the metric `group_accuracy`, as `evaluate.load` takes it."""


def push_group_accuracy(
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str = "Metric group_accuracy",
) -> CommitInfo:
    """Push the metric as a Space; then `evaluate.load(repo_id, module_type="metric")` works anywhere.

    The command `python -m gerne_hf.evaluate_modules push REPO_ID` calls it.

    Args:
        repo_id (`str`): `OWNER/group_accuracy`; made if there is none.
        token (`str`, *optional*): with write access; that of the log-in if not given.
        private (`bool`, *optional*): whether a Space that is made is private.
        commit_message (`str`): what the commit is called.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        ValueError: for another name, or a Space that holds something else; nothing is pushed.
        HfHubHTTPError: without a token or the rights, or for a failed upload; notes say what to do.
    """
    folder = Path(GROUP_ACCURACY_PATH)
    if repo_id.split("/")[-1] != folder.name:
        raise ValueError(
            f"the Space must be called OWNER/{folder.name}: evaluate looks for a script of the Space's name; found "
            f"{repo_id!r}"
        )
    repo_id = make_repository(repo_id, "space", f"{folder.name}.py", "metric group_accuracy", token, private, "gradio")
    with explained(f"The push to the Space {repo_id} failed. Push again by the same call. {RIGHTS}."):
        return HfApi(token=token).upload_folder(
            repo_id=repo_id,
            repo_type="space",
            folder_path=folder,
            ignore_patterns=["__pycache__/*", "*.pyc"],
            commit_message=commit_message,
        )
