"""Pushes pseudo-attributes and the metric, `push()`, and in another process loads them, `load()`: each returns what it
found."""

import evaluate
import numpy as np
from datasets import ClassLabel, Dataset, load_dataset
from huggingface_hub import HfApi

from gerne_hf import PseudoAttributes
from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH, push_group_accuracy
from gerne_hf.evaluate_modules.__main__ import main
from gerne_hf.groups.fingerprints import fingerprint


def training_set(rows=60, seed=0):
    draw = np.random.default_rng(seed)
    table = {"text": [f"row {i} of {seed}" for i in range(rows)], "label": draw.integers(0, 2, rows).tolist()}
    return Dataset.from_dict(table).cast_column("label", ClassLabel(names=["land", "water"]))


def scored(data):
    labels = np.array(data["label"][:])
    draw = np.random.default_rng(1)
    scores, predictions = draw.random(len(labels)).astype(np.float32), draw.integers(0, 2, len(labels))
    record = {
        "label_column": None,
        "columns": ["label", "text"],
        "class_balanced_accuracy": 0.75,
        "model": "BertForSequenceClassification",
        "model_origin": "acme/tiny-bert",
        "settings": {"biased_model": "/home/me/secret", "seed": 0},
    }
    mark = fingerprint(data, None, ["label", "text"])
    return PseudoAttributes(scores, predictions, labels, ("land", "water"), mark, record=record)


def told(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return "\n".join([type(error).__name__, str(error), *getattr(error, "__notes__", [])])


def push() -> dict:
    """Push them, and try what is refused."""
    data = training_set()
    pseudo = scored(data)
    pseudo.push_to_hub("tester/scores", [0.1, 0.29])
    pseudo.push_to_hub("scores-alone", private=True)
    api = HfApi()
    api.create_repo("tester/model")
    api.create_repo("tester/model", repo_type="space", space_sdk="docker")
    data.push_to_hub("tester/training-set")
    found = {
        "threshold": told(pseudo.push_to_hub, "tester/unmade", 0.001),
        "other": told(pseudo.push_to_hub, "tester/training-set", 0.1),
        "read": told(pseudo.push_to_hub, "tester/unmade", 0.1, token="hf_read"),
        "wrong": told(pseudo.push_to_hub, "tester/unmade", 0.1, token="hf_wrong"),
        "foreign": told(pseudo.push_to_hub, "stranger/unmade", 0.1),
        "fault": told(pseudo.push_to_hub, "tester/fault", 0.1),
    }
    pseudo.save("kept")
    found["kept"] = told(pseudo.push_to_hub, "tester/fault", 0.1)
    pseudo.push_to_hub("tester/fault", 0.1)
    pseudo.push_to_hub("tester/beside", 0.1)
    api.create_repo("tester/beside")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="tester/beside")
    api.create_repo("acme/group_accuracy", repo_type="space", space_sdk="docker")
    hidden = {"path_or_fileobj": b"print()", "path_in_repo": "app.py", "repo_type": "space"}
    api.create_repo("reader/group_accuracy", repo_type="space", space_sdk="gradio")
    api.upload_file(repo_id="reader/group_accuracy", **hidden)
    found["metric"] = {
        "name": told(push_group_accuracy, "tester/accuracy"),
        "sdk": told(push_group_accuracy, "acme/group_accuracy"),
        "files": told(push_group_accuracy, "reader/group_accuracy"),
        "read": told(push_group_accuracy, "tester/group_accuracy", token="hf_read"),
        "fault": told(main, ["push", "tester/group_accuracy"]),
        "command": told(main, ["push", "tester/group_accuracy"]),
        "again": told(main, ["push", "tester/group_accuracy"]),
    }
    hard = [np.flatnonzero(pseudo.attributes(t) == 0).tolist() for t in (0.1, 0.29, 0.5)]
    return {**found, "hard": hard}


def load() -> dict:
    """Load them, and try what is refused."""
    columns = {"predictions": [0, 1, 1], "references": [0, 1, 0], "attributes": [0, 0, 1]}
    data = training_set()
    wanted = scored(data)
    pseudo = PseudoAttributes.from_hub("tester/scores", data)
    alone = PseudoAttributes.from_hub("tester/scores-alone")
    rows = load_dataset("tester/scores", split="train")
    labelled = pseudo.label(0.5)
    return {
        "equal": [
            [bool((a == b).all()), a.dtype == b.dtype]
            for back in (pseudo, alone)
            for name in ("scores", "predictions", "labels")
            for a, b in [(getattr(back, name), getattr(wanted, name))]
        ],
        "rest": [pseudo.label_names, pseudo.fingerprint == wanted.fingerprint, pseudo.directory, pseudo.record],
        "hard": [[i for i, value in enumerate(rows[f"pseudo_attribute_{t}"]) if value == 0] for t in (0.1, 0.29)]
        + [[i for i, value in enumerate(labelled["pseudo_attribute"]) if value == 0]],
        "features": {name: getattr(feature, "names", str(feature)) for name, feature in rows.features.items()},
        "rows": rows[:3],
        "other rows": told(PseudoAttributes.from_hub, "tester/scores", training_set(seed=3)),
        "unlabelled": told(alone.label, 0.5, training_set(rows=50)),
        "type": told(PseudoAttributes.from_hub, "tester/model"),
        "nothing": told(PseudoAttributes.from_hub, "tester/nothing"),
        "contents": told(PseudoAttributes.from_hub, "tester/training-set"),
        "beside": told(PseudoAttributes.from_hub, "tester/beside", data),
        "metric": [
            evaluate.load(name, module_type="metric").compute(**columns)
            for name in ("tester/group_accuracy", GROUP_ACCURACY_PATH)
        ],
    }
