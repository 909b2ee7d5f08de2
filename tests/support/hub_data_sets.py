"""Miniatures of the data sets on the Hub with their features, splits, configurations and ids: `push()`, and in
another process `load()`, which returns what it found."""

import hashlib
import json
import tempfile
from pathlib import Path

import datasets
import test_data_celeba as celeba
import test_data_civilcomments as civilcomments
import test_data_colored_mnist as mnist
import test_data_corrupted_cifar10 as cifar10
import test_data_images as images
import test_data_multinli as multinli
import test_data_texts as texts
import test_data_waterbirds as waterbirds
from huggingface_hub import HfApi

from gerne_hf import GroupIndex
from gerne_hf.data.bffhq import load_bffhq
from gerne_hf.data.celeba import HUB_CONFIG, load_celeba
from gerne_hf.data.civilcomments import HUB_NAME, load_civilcomments
from gerne_hf.data.colored_mnist import load_colored_mnist
from gerne_hf.data.corrupted_cifar10 import load_corrupted_cifar10
from gerne_hf.data.images import load_images
from gerne_hf.data.multinli import load_multinli
from gerne_hf.data.texts import load_texts
from gerne_hf.data.waterbirds import load_waterbirds
from gerne_hf.hub.repositories import hub_origin

OTHER = "somebody/other"
mnist.colored_mnist.TRAIN_ROWS, mnist.colored_mnist.MINORITY_ROWS = mnist.TRAIN, {0.5: 200}

LOADERS = {
    "multinli": (load_multinli, "nyu-mll/multi_nli", {}, ("label", "negation")),
    "waterbirds": (load_waterbirds, "grodino/waterbirds", {"image_size": 8, "augment": False}, ("label", "place")),
    "celeba": (load_celeba, "flwrlabs/celeba", {"image_size": 8, "augment": False}, ("Blond_Hair", "Male")),
    "civilcomments": (load_civilcomments, HUB_NAME, {}, ("label", "identity")),
    "civilcomments_parquet": (load_civilcomments, "pietrolesci/civilcomments-wilds", {}, ("label", "identity")),
    "colored_mnist": (load_colored_mnist, "ylecun/mnist", {}, ("label", "colour")),
    "corrupted_cifar10": (load_corrupted_cifar10, "uoft-cs/cifar10", cifar10.SMALL, ("label", "corruption")),
    "text": (load_texts, "somebody/comments", texts.SETTINGS, ("mood", "topic")),
    "image": (
        *(load_images, "somebody/pets", {"image_column": "picture", **images.SETTINGS, "augment": False}),
        ("kind", "place"),
    ),
}
"""Loader, Hub id, settings, and the columns of label and attribute."""


def push() -> None:
    """Push the miniatures."""
    multinli.miniature().push_to_hub("nyu-mll/multi_nli")
    splits(waterbirds.columns_of, waterbirds.SIZES, waterbirds.FEATURES).push_to_hub("grodino/waterbirds")
    faces = splits(lambda key, rows: celeba.columns_of(rows), celeba.ROWS, celeba.FEATURES)
    faces.push_to_hub("flwrlabs/celeba", HUB_CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        comments = civilcomments.store(Path(folder) / "comments", "csv")  # with the loading script beside it
        HfApi().create_repo(HUB_NAME, repo_type="dataset")
        HfApi().upload_folder(repo_id=HUB_NAME, repo_type="dataset", folder_path=comments)
        table = datasets.DatasetDict(train=civilcomments.miniature())
        table.push_to_hub("pietrolesci/civilcomments-wilds", "raw")
        for module, name in ((mnist, "ylecun/mnist"), (cifar10, "uoft-cs/cifar10")):
            HfApi().create_repo(name, repo_type="dataset")
            pictures = module.miniature(Path(folder) / module.__name__)
            HfApi().upload_folder(repo_id=name, repo_type="dataset", folder_path=pictures)
    texts.in_memory().push_to_hub("somebody/comments")
    images.in_memory().push_to_hub("somebody/pets")
    other = datasets.Dataset.from_dict({"caption": ["a", "b"], "weight": [1.0, 2.0]})
    keys = ("train", "validation", "test", "validation_matched")
    datasets.DatasetDict({key: other for key in keys}).push_to_hub(OTHER)


def splits(columns_of, sizes, features) -> datasets.DatasetDict:
    return datasets.DatasetDict(
        {key: datasets.Dataset.from_dict(columns_of(key, rows), features=features) for key, rows in sizes.items()}
    )


def local(name: str, folder: Path):
    """What the loader takes without the Hub."""
    if name.startswith("civilcomments"):
        return datasets.DatasetDict(train=civilcomments.miniature())
    if name == "multinli":
        return multinli.as_parquet(multinli.miniature(), folder)
    if name in ("text", "image"):
        return {"text": texts, "image": images}[name].in_memory()
    modules = {"waterbirds": waterbirds, "celeba": celeba, "colored_mnist": mnist, "corrupted_cifar10": cifar10}
    return modules[name].miniature(folder)


def load() -> dict:
    """Load each by its id, from files on this machine, and from a data set of another schema."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (loader, repo_id, settings, columns) in LOADERS.items():
            by_id = loader(repo_id, **settings)
            from_files = loader(local(name, Path(folder) / name), **settings)
            found[name] = {
                "hub": described(by_id, columns),
                "local": described(from_files, columns),
                "origins": origins(by_id) + origins(from_files),
                "commit": [repo_id, HfApi().dataset_info(repo_id).sha],
                "other": told(loader, OTHER, **settings),
            }
    return {**found, "bffhq": told(load_bffhq, "somebody/bffhq")}


def origins(loaded) -> list:
    """What each split tells of where it comes from."""
    return [hub_origin(split) for split in (loaded[0] if isinstance(loaded, tuple) else loaded).values()]


def told(function, *arguments, **settings) -> str | None:
    try:
        function(*arguments, **settings)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def described(loaded, columns) -> dict:
    """Rows of each split, names of the groups, and a digest of all rows."""
    loaded = loaded[0] if isinstance(loaded, tuple) else loaded
    groups = {key: GroupIndex.from_dataset(split, *columns) for key, split in loaded.items()}
    digest = hashlib.sha256()
    for key, split in loaded.items():
        digest.update(json.dumps([key, groups[key].counts.tolist()]).encode())
        rows = split.__getitems__(list(range(len(split))))
        for row in rows:
            digest.update(b"".join(as_bytes(value) for _, value in sorted(row.items())))
    train = groups["train"]
    names = [list(train.label_names), list(train.attribute_names)]
    return {"rows": {key: len(split) for key, split in loaded.items()}, "names": names, "digest": digest.hexdigest()}


def as_bytes(value) -> bytes:
    return value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
