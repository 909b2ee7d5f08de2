"""Pseudo-attributes as a data set on the Hub: scores, attributes at some thresholds, and a card that explains them.

Imports `hub/` and `method/`; [`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes) calls it.
"""

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import datasets
import numpy as np
from huggingface_hub import CommitInfo, DatasetCardData, HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from ..hub.repositories import advised, make_repository, other_types
from ..method.pseudo_groups import HARD, PSEUDO_NAMES
from ..utils.files import write_json
from ..utils.markdown import code, format_table, plain
from .fit_record import RECORD_FILE

SCORES_FILE = "scores.parquet"

TAGS = ("gerne", "group-robustness", "pseudo-attributes")


class Scores(Protocol):
    """What is pushed: the parts of [`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes) used here."""

    scores: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    fingerprint: str
    directory: str | None
    record: dict[str, Any]

    def attributes(self, threshold: float) -> np.ndarray:
        """Return each row's pseudo-attribute at a threshold, `(N,)`."""


def push_scores(
    pseudo: Scores,
    repo_id: str,
    thresholds: Sequence[float],
    token: str | None = None,
    private: bool | None = None,
    commit_message: str = "Pseudo-attributes",
    dataset: str | None = None,
    license: str | None = None,
) -> CommitInfo:
    """Push scores, pseudo-attributes and a card as a data set, in one commit.

    Args:
        pseudo ([`PseudoAttributes`]): what is pushed.
        repo_id, thresholds, token, private, commit_message, dataset, license: as for
            [`PseudoAttributes.push_to_hub`](gerne_hf.pseudo_attributes.PseudoAttributes.push_to_hub).

    Raises:
        ValueError, HfHubHTTPError: as there.
    """
    table = scores_table(pseudo, thresholds)
    repo_id = make_repository(repo_id, "dataset", RECORD_FILE, "pseudo-attributes", token, private)
    kept = f"are kept in {pseudo.directory}" if pseudo.directory else "are in memory; save(FOLDER) keeps them"
    with TemporaryDirectory() as folder:
        write_repository(pseudo, folder, table, repo_id, thresholds, dataset, license)
        with advised(f"The push to {repo_id} failed; the scores {kept}. Push again by the same call."):
            return HfApi(token=token).upload_folder(
                repo_id=repo_id, repo_type="dataset", folder_path=folder, commit_message=commit_message
            )


def download_scores(repo_id: str, revision: str | None = None, token: str | None = None) -> str:
    """Download scores that were pushed, and return their folder.

    Args:
        repo_id, revision, token: as for
            [`PseudoAttributes.from_hub`](gerne_hf.pseudo_attributes.PseudoAttributes.from_hub).

    Raises:
        RepositoryNotFoundError: if there is no such data set; a note names what has that name instead.
        ValueError: if it holds no pseudo-attributes, naming what it holds.
    """
    try:
        folder = snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision,
            token=token,
            allow_patterns=[SCORES_FILE, RECORD_FILE],
        )
    except RepositoryNotFoundError as error:
        others = other_types(repo_id, "dataset", token)
        there = f"; {repo_id} is a {' and a '.join(others)}" if others else ", or the token may not read it"
        error.add_note(f"There is no data set {repo_id}{there}. Pass the id that push_to_hub was given.")
        raise
    if not all(os.path.isfile(os.path.join(folder, name)) for name in (SCORES_FILE, RECORD_FILE)):
        found = HfApi(token=token).list_repo_files(repo_id, repo_type="dataset", revision=revision)
        raise ValueError(
            f"the data set {repo_id} holds no pseudo-attributes: there are {', '.join(found[:8])}, and "
            f"{SCORES_FILE} and {RECORD_FILE} are needed. Pass an id that push_to_hub was given"
        )
    return folder


# ---- what is pushed -------------------------------------------------------------------------------------------------


def column_name(threshold: float) -> str:
    """The column of the pseudo-attributes at a threshold."""
    return f"pseudo_attribute_{float(threshold)!r}"


def scores_table(pseudo: Scores, thresholds: Sequence[float]) -> datasets.Dataset:
    """A row for each training row: `label`, `prediction`, `score`, and the attributes at each threshold.

    Raises:
        ValueError: for a threshold that leaves a part of a class empty.
    """
    classes = datasets.ClassLabel(names=list(pseudo.label_names))
    features = {"label": classes, "prediction": classes, "score": datasets.Value("float32")}
    columns = {"label": pseudo.labels, "prediction": pseudo.predictions, "score": pseudo.scores.astype(np.float32)}
    for threshold in thresholds:
        columns[column_name(threshold)] = pseudo.attributes(threshold).astype(np.int64)
        features[column_name(threshold)] = datasets.ClassLabel(names=list(PSEUDO_NAMES))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def write_repository(
    pseudo: Scores,
    folder: str,
    table: datasets.Dataset,
    repo_id: str,
    thresholds: Sequence[float],
    dataset: str | None = None,
    license: str | None = None,
) -> None:
    """Write the files of the repository; [`PseudoAttributes.load`] reads them, too."""
    table.to_parquet(os.path.join(folder, SCORES_FILE))
    record = {**pseudo.record, "fingerprint": pseudo.fingerprint, "label_names": list(pseudo.label_names)}
    write_json(_without_folders(record), os.path.join(folder, RECORD_FILE))
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
        file.write(card(pseudo, repo_id, thresholds, dataset, license))


def _without_folders(value: Any) -> Any:
    """A record without the folders of this machine, which tell nobody else anything."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    return None if isinstance(value, str) and os.path.isabs(value) else value


def card(
    pseudo: Scores, repo_id: str, thresholds: Sequence[float], dataset: str | None = None, license: str | None = None
) -> str:
    """The card of the scores, which names the data set that they belong to and its licence."""
    known: dict[str, Any] = {"license": license, "source_datasets": None if dataset is None else [dataset]}
    data = DatasetCardData(
        pretty_name=f"Pseudo-attributes: {repo_id.split('/')[-1]}",
        tags=list(TAGS),
        **{key: value for key, value in known.items() if value is not None},
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": SCORES_FILE}]}],
    )
    names = [column_name(threshold) for threshold in thresholds]
    rows = [
        ["`label`", "the row's class"],
        ["`prediction`", "class that the biased model predicts"],
        ["`score`", "softmax probability that the biased model gives to the row's class"],
    ]
    for name, threshold in zip(names, thresholds, strict=True):
        rows.append(
            [f"`{name}`", f"hard for the share t = {threshold:g} of each class with the lowest scores, else easy"]
        )
    threshold = thresholds[0] if thresholds else 0.05
    return f"""---
{data.to_yaml()}
---

# Pseudo-attributes of a training set

How sure a deliberately biased model is of each row of a training set, and the attributes that stand in for unknown
ones: the rows of each class that it is least sure of are *hard*, the others *easy*. Classes and pseudo-attributes
make groups that robust training balances (GERNE, Algorithm 2, [arXiv 2503.13236](https://arxiv.org/abs/2503.13236)).

{_belonging(dataset, license)}
- {len(pseudo.scores):,} rows, in the order of the training set. Its inputs are not part of this data set.
- Fingerprint of the training set: `{pseudo.fingerprint}`. A training set with other rows, labels or order is refused.
{_model_lines(pseudo.record)}

## Columns

{_markdown(["column", "what it is"], rows)}

{_counts(pseudo, thresholds)}

## How to use

With `gerne_hf`, at any threshold:

```python
from gerne_hf import PseudoAttributes

pseudo = PseudoAttributes.from_hub("{repo_id}", train_dataset)  # checks the fingerprint
train_dataset = pseudo.label({threshold:g})  # adds the column "pseudo_attribute"
```

Train on it with `GerneConfig(attribute_column="pseudo_attribute")`.
{_plain_use(repo_id, names)}
## Limits

The attributes are those of one biased model: they need not be the ones that a person would name. What is hard may also
be mislabelled.
"""


def _belonging(dataset: str | None, license: str | None) -> str:
    """Which data set the scores belong to, and its licence."""
    if dataset is None:
        return "- Whose training set these are scores of was not told: the fingerprint below recognizes it."
    place = f"[{plain(dataset)}](https://huggingface.co/datasets/{quote(dataset)})"
    return f"- They belong to the data set {place}. Its licence: {plain(license or 'not told, see there')}."


def _model_lines(record: dict[str, Any]) -> str:
    accuracy, origin = record.get("class_balanced_accuracy"), record.get("model_origin")
    origin = f", fine-tuned from {code(origin)}" if origin and not os.path.exists(origin) else ""
    lines = [f"- Biased model: {code(record['model'])}{origin}."] if record.get("model") else []
    if accuracy is not None:
        lines.append(f"- Its class-balanced accuracy on the validation set: {100 * accuracy:.1f} %.")
    return "\n".join([*lines, f"- How it was trained: `{RECORD_FILE}`."])


def _counts(pseudo: Scores, thresholds: Sequence[float]) -> str:
    """Rows of each class, and how many of them are hard."""
    table = []
    hard = [pseudo.attributes(threshold) == HARD for threshold in thresholds]
    for label, name in enumerate(pseudo.label_names):
        rows = pseudo.labels == label
        table.append([plain(name), f"{rows.sum():,}", *(f"{(rows & part).sum():,}" for part in hard)])
    return format_table(["class", "rows", *(f"hard at t = {threshold:g}" for threshold in thresholds)], table)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def _plain_use(repo_id: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"""
Without it:

```python
from datasets import load_dataset

scores = load_dataset("{repo_id}", split="train")
column = "{names[0]}"
# The rows must be those of the training set, in its order: nothing checks that here.
train_dataset = train_dataset.add_column(column, scores[column][:], feature=scores.features[column])
```
"""
