"""Trains tiny models that push to the Hub; run in a process of its own: `python published.py SPECIFICATIONS`.

The argument is a JSON list of runs, or the file of one, each with `name`, `kind` ("text", "image", "vit", "resnet",
"timm"), settings of the config and, where it is not the name, a `label` of the outcome. `faults` are those that the
Hub is to have from the beginning of the run on, instead of those before. A line of JSON with the outcomes is printed
last.
"""

import json
import os
import pathlib
import sys
import traceback
import urllib.request

import numpy as np
import torch
from captured_logs import logged
from datasets import Array3D, ClassLabel, Dataset, Features, Value
from helpers import bert, config, group_columns, timm_resnet
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from gerne_hf import GerneTrainer
from gerne_hf.models.images import ImageBackbone, small_image_model
from gerne_hf.models.mlp import MLPConfig, MLPForImageClassification
from gerne_hf.reports import plots

LABELS, COUNTS, SIDE = ["land", "water"], [[12, 4], [4, 12]], 8
DRAW = plots.plot_training  # takes longer than the training
WORDS = ["[PAD]", "[UNK]", "duck", "jay", "sea", "wood", "the", "on"]


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16, padding_side="right"
    )


def texts(seed=0):
    labels, places = group_columns(COUNTS, seed)
    written = [f"the {('jay', 'duck')[y]} on the {('wood', 'sea')[a]}" for y, a in zip(labels, places, strict=True)]
    encoded = tokenizer()(written, padding="max_length", max_length=8)
    columns = {key: encoded[key] for key in ("input_ids", "attention_mask")}
    data = Dataset.from_dict({**columns, "label": labels.tolist(), "place": places.tolist()})
    return data.cast_column("label", ClassLabel(names=LABELS))


def pictures(seed=0):
    labels, places = group_columns(COUNTS, seed)
    pixels = np.random.default_rng(seed).normal(size=(len(labels), 3, SIDE, SIDE)).astype(np.float32)
    pixels[:, 0] += labels[:, None, None]
    features = Features(
        {
            "pixel_values": Array3D((3, SIDE, SIDE), "float32"),
            "label": ClassLabel(names=LABELS),
            "place": Value("int64"),
        }
    )
    columns = {"pixel_values": pixels, "label": labels.tolist(), "place": places.tolist()}
    return Dataset.from_dict(columns, features=features).with_format("torch")


def parts(kind):
    """Model, processor and data sets."""
    torch.manual_seed(0)
    if kind == "text":
        return bert(), tokenizer(), texts(), texts(1)
    if kind in ("resnet", "timm"):  # as the image recipes make them
        model = timm_resnet() if kind == "timm" else small_image_model(LABELS)
        backbone = ImageBackbone(small_image_model, SIDE, timm=kind == "timm")
        return model, backbone.processor, pictures(), pictures(1)
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    if kind == "vit":
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        model = ViTForImageClassification(ViTConfig(image_size=SIDE, patch_size=4, num_labels=2, **sizes))
    else:
        model = MLPForImageClassification(MLPConfig(image_size=SIDE, hidden_sizes=[8], num_labels=2))
    return model, processor, pictures(), pictures(1)


def make(kind, name, **settings):
    model, processor, train, evaluation = parts(kind)
    defaults = dict(push_to_hub=True, hub_model_id=f"tester/{name}", eval_strategy="steps", eval_steps=1)
    return GerneTrainer(
        model=model,
        args=config(name, **{**defaults, "save_strategy": "steps", "save_steps": 1, **settings}),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
    )


def logits(model, kind):
    """Of the evaluation rows."""
    rows = (texts(1) if kind == "text" else pictures(1)).with_format("torch")
    names = ("input_ids", "attention_mask") if kind == "text" else ("pixel_values",)
    with torch.no_grad():
        return model.eval()(**{name: rows[:][name] for name in names}).logits.tolist()


def order(faults):
    """Have the Hub treat requests as a test wants it."""
    request = urllib.request.Request(os.environ["HF_ENDPOINT"] + "/tests/faults", json.dumps(faults).encode())
    urllib.request.urlopen(request).close()


def run(kind, name, finish="", resume=False, pictures=True, faults=None, **settings):
    if faults is not None:
        order(faults)
    plots.plot_training = DRAW if pictures else lambda *args: None
    outcome, trainer = {}, None
    # All evaluation sets are small here; that is warned of once a process.
    with logged("gerne_hf", besides="fewer than 10 rows of the evaluation set") as outcome["warnings"]:
        try:
            trainer = make(kind, name, **settings)
            trainer.train(resume_from_checkpoint=resume)
            if finish == "push":
                trainer.push_to_hub()
            elif finish == "future":
                trainer.push_to_hub(blocking=False)
                trainer.check_pushes()
        except Exception as error:
            outcome["error"] = "".join(traceback.format_exception_only(error))
            outcome["type"] = type(error).__name__
        if trainer is not None:
            outcome.update(step=trainer.state.global_step, logits=logits(trainer.model, kind))
    return outcome


if __name__ == "__main__":
    results, given = {}, sys.argv[1]
    for specification in json.loads(pathlib.Path(given).read_text() if given.endswith(".json") else given):
        label = specification.pop("label", specification["name"])
        results[label] = run(**specification)
    print("\n" + json.dumps(results), flush=True)
