"""Pushing the metric `group_accuracy` to the Hub as a Space, where `evaluate.load` finds it by its id.

Imports `hub/`. The command line that calls it is in [`__main__`](gerne_hf.evaluate_modules.__main__).
"""

from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

from ..hub.repositories import advised, make_repository

GROUP_ACCURACY_PATH = str(Path(__file__).parent / "group_accuracy")
"""Folder of the metric `group_accuracy`, as `evaluate.load` takes it."""


def push_group_accuracy(
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str = "Metric group_accuracy",
) -> CommitInfo:
    """Push the metric to the Hub as a Space, so that `evaluate.load(repo_id, module_type="metric")` loads it anywhere.

    On the command line: `python -m gerne_hf.evaluate_modules push REPO_ID`.

    Args:
        repo_id (`str`): id of the Space, `OWNER/group_accuracy`. The Space is made if there is none.
        token (`str`, *optional*): a token with write access; that of the log-in if not given.
        private (`bool`, *optional*): whether a Space that is made here is private.
        commit_message (`str`, *optional*, defaults to `"Metric group_accuracy"`): message of the commit.

    Returns:
        `huggingface_hub.CommitInfo`: the commit on the Hub.

    Raises:
        ValueError: if the Space has another name, or holds something else. Nothing is pushed then.
        HfHubHTTPError: if the token is missing or lacks rights, or the upload fails. Notes say what to do.
    """
    folder = Path(GROUP_ACCURACY_PATH)
    if repo_id.split("/")[-1] != folder.name:
        raise ValueError(
            f"the Space must be called OWNER/{folder.name}: evaluate looks for a script of the Space's name; found "
            f"{repo_id!r}"
        )
    repo_id = make_repository(repo_id, "space", f"{folder.name}.py", "metric group_accuracy", token, private, "gradio")
    with advised(f"The push to the Space {repo_id} failed. Push again by the same call."):
        return HfApi(token=token).upload_folder(
            repo_id=repo_id,
            repo_type="space",
            folder_path=folder,
            ignore_patterns=["__pycache__/*", "*.pyc"],
            commit_message=commit_message,
        )
