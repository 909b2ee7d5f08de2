"""`gerne-hf groups`: which rows of each class models get wrong that were trained on other rows, and what they share.

Imports `data/`, `models/`, `pseudo_attributes/`, `recipes/` and the trainer. The options are in
[`app`](gerne_hf.cli.app).
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import datasets
import torch

from ..config import GerneConfig
from ..data.loading import require_columns
from ..data.missing import usable_rows
from ..data.splits import SPLITS, choose_splits, load_any, with_classes
from ..data.texts import check_texts, tokenize
from ..pseudo_attributes.exports import ROWS_CSV
from ..recipes.arguments import ImageArguments, TextArguments
from ..recipes.texts import text_tokenizer, text_trainer
from ..reports.group_report import check_no_training
from ..reports.page import write_report
from ..reports.record import EXAMPLES_FOLDER, INFERRED_FILE
from ..trainer import GerneTrainer
from .columns import input_columns
from .showing import say_page

COLUMN = "pseudo_attribute"
"""Name of the column that says of each row whether it is hard."""

MOST_COLUMNS = 3
"""Columns that explain the hard rows of which sentences are printed; the page has more."""

TABLE_FOLDER = "rows_with_groups"
"""Folder in the output with the rows and that column, as `save_to_disk` writes it."""


def find_groups(
    dataset: str,
    output_dir: str,
    dataset_config: str | None = None,
    split: str = "train",
    label_column: str = "label",
    text_columns: Sequence[str] = (),
    image_column: str | None = None,
    model: str | None = None,
    epochs: float = 3.0,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    seed: int = 0,
    rule: str = "auto",
    skip_unusable_rows: bool = False,
) -> None:
    """Train biased models on parts of the rows, score the others, and write what was found.

    The folder gets `inferred_groups.json`, a CSV with a line for each row, the rows with a column of their group, and
    the page `_report.html` with the hardest rows, the columns that explain them, and suspected label noise.

    Args:
        dataset (`str`): Hub id, folder or file.
        output_dir (`str`): folder of what is written.
        dataset_config (`str`, *optional*): the data set's configuration on the Hub.
        split (`str`): the rows in which groups are looked for. A validation split, if the data have one, shows by how
            it differs whether there is a minority at all; else a tenth of the rows is held out.
        label_column (`str`): column of the class.
        text_columns (`Sequence[str]`), image_column (`str`, *optional*): what the models read.
        model (`str`, *optional*): backbone of the models; that of the recipes if not given.
        epochs (`float`): epochs of each of the two models.
        batch_size (`int`): rows of a batch.
        learning_rate (`float`): learning rate of these models.
        seed (`int`): seed of the models.
        rule (`str`): as `pseudo_rule` of [`GerneConfig`]; "auto" takes what a validation split shows, and without one
            "confident_mistakes", which says what models get wrong but not whether these rows are a minority.
        skip_unusable_rows (`bool`): whether rows that lack a text, an image or a label are left out and counted.

    Raises:
        OSError: if there is no such data set or model.
        ValueError: for columns or a split that are not there, rows that lack a value, a column of the name
            "pseudo_attribute", and a folder that holds a training.
    """
    check_no_training(output_dir)
    splits = load_any(dataset, dataset_config, "dataset")
    if split not in splits:
        raise ValueError(f"{dataset} has no split {split!r}: it has {', '.join(splits)}. Name one with --split")
    texts, image = input_columns(splits[split], text_columns, image_column, [label_column], dataset)
    chosen = choose_splits(splits, dataset, train=split)
    kept = datasets.DatasetDict({role: chosen[role] for role in ("train", "validation") if role in chosen})
    needed = [*texts, *([image] if image else []), label_column]
    require_columns(kept[list(kept)[-1]], needed, dataset)
    if COLUMN in kept["train"].column_names:
        raise ValueError(f"{dataset} has a column {COLUMN!r} already, of an earlier run perhaps. Rename or remove it")
    kept = usable_rows(kept, needed, dataset, skip_unusable_rows)
    data = with_classes(kept, label_column, (), dataset)
    if rule == "auto" and "validation" not in data:
        rule = "confident_mistakes"
        print(
            "There is no validation split, so rows count as hard by the rule 'confident_mistakes': those of which "
            "models trained on other rows are sure of another class. Nothing shows whether they are a minority or "
            "mislabelled; look at them.",
            flush=True,
        )
    config = GerneConfig(
        output_dir=output_dir,
        pseudo_attributes=True,
        pseudo_rule=rule,
        c=1.0,
        beta=0.2,
        label_column=label_column,
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=4 * batch_size,
        learning_rate=learning_rate,
        seed=seed,
        report_to=[],
        save_strategy="no",
        eval_strategy="epoch" if "validation" in data else "no",
        remove_unused_columns=not image,
        dataloader_pin_memory=torch.accelerator.is_available(),
    )
    trainer = _trainer(config, data, dataset, label_column, texts, image, model)
    trainer.find_groups(data["train"])
    print("\n".join(["", *explanations(os.path.join(output_dir, INFERRED_FILE)), ""]), flush=True)
    trainer.save_group_metrics()
    _save_rows(trainer, data["train"], os.path.join(output_dir, TABLE_FOLDER))
    print(
        f"{os.path.join(output_dir, EXAMPLES_FOLDER, ROWS_CSV)}: a line for each row\n"
        f"{os.path.join(output_dir, TABLE_FOLDER)}: the rows with the column {COLUMN!r}, for attribute_column\n"
        f"{os.path.join(output_dir, INFERRED_FILE)}: what was found"
    )
    say_page(write_report(output_dir))


def explanations(path: str) -> list[str]:
    """Return sentences on what was found: which columns go with the hard rows, and which rows look mislabelled.

    Args:
        path (`str`): the file `inferred_groups.json` of a run.
    """
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    said = []
    for column in found["explaining_columns"][:MOST_COLUMNS]:
        values = sorted(column["values"], key=lambda value: value["share_of_others"] - value["share_of_hard"])
        examples = "; ".join(
            f"{value['value']!r} in {100 * value['share_of_hard']:.0f} % of the hard rows of {value['label']} and in "
            f"{100 * value['share_of_others']:.0f} % of its others"
            for value in values[:2]
        )
        said.append(f"The column {column['column']!r} goes with the hard rows: {examples}.")
    hard = sum(entry["hard"] for entry in found["classes"])
    if hard and not said:
        said.append("No column of the data explains the hard rows; look at them on the page.")
    noise = found["label_noise"]
    if noise is not None and noise["rows"]:
        first = ", ".join(str(row) for row in noise["first_rows"][:5])
        said.append(f"{noise['rows']:,} rows look mislabelled, {noise['hard']:,} of them hard: rows {first}, ...")
    return said


def _trainer(
    config: GerneConfig,
    data: datasets.DatasetDict,
    name: str,
    label_column: str,
    texts: Sequence[str],
    image: str | None,
    model: str | None,
) -> GerneTrainer:
    """Return a trainer over the rows, which has trained nothing."""
    more: dict[str, Any] = {} if model is None else {"model_name_or_path": model}
    prepared: dict[str, Any]
    if image:
        from ..data.images import load_images  # needs the extra vision
        from ..recipes.images import image_backbone, image_trainer

        pictures = ImageArguments(dataset_name=name, **more)
        backbone = image_backbone(pictures)
        whole = datasets.DatasetDict({**data, **{role: data["train"] for role in SPLITS if role not in data}})
        prepared = {**load_images(whole, image, label_column, augment=False, **backbone.images)}
        prepared["validation"] = prepared["validation"] if "validation" in data else None
        return image_trainer(pictures, backbone, prepared)(config, GerneTrainer)
    words = TextArguments(dataset_name=name, **more)
    for role, rows in data.items():
        for column in texts:
            check_texts(rows, column, f"{name}, split {role!r},")
    tokenizer = text_tokenizer(words, data["train"], texts)
    tokens = tokenize(data, tokenizer, texts, words.max_length)
    if label_column != "label":  # the name that collators know
        taken = [column for column in tokens["train"].column_names if column == "label"]
        tokens = tokens.remove_columns(taken).rename_column(label_column, "label")
        config.label_column = "label"
    prepared = {"validation": None, **tokens}
    return text_trainer(words, tokenizer, prepared)(config, GerneTrainer)


def _save_rows(trainer: GerneTrainer, rows: datasets.Dataset, folder: str) -> None:
    """Write the rows with a column that says which are hard."""
    assert trainer.inferred is not None
    names = ["hard" if hard else "easy" for hard in trainer.inferred.hard.tolist()]
    rows.add_column(COLUMN, names).save_to_disk(folder)
