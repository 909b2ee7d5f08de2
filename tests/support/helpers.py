"""Tiny data sets and models, built in place, for the tests of the trainer."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from places import python_path
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    TrainerCallback,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from gerne_hf import GerneConfig, GerneTrainer

gc.freeze()  # every training collects garbage as it begins; what is imported by now need not be looked at each time

SKEWED = [[40, 8], [10, 30]]
"""Rows of each group, (K, A): the attribute tells the label for 7 rows in 9."""

EVEN = [[12, 12], [12, 12]]


def group_columns(counts: Sequence[Sequence[int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and attributes of shuffled rows, `counts[y][a]` of each group."""
    pairs = [(y, a) for y, row in enumerate(counts) for a, count in enumerate(row) for _ in range(count)]
    pairs = np.random.default_rng(seed).permutation(np.array(pairs))
    return pairs[:, 0], pairs[:, 1]


def table(counts: Sequence[Sequence[int]] = SKEWED, seed: int = 0, width: int = 6, **columns: Any) -> Dataset:
    """Rows of numbers in which label and attribute (`place`) are each a noisy direction; `row` is the row's number."""
    labels, places = group_columns(counts, seed)
    features = np.random.default_rng(seed + 1).normal(size=(len(labels), width))
    features[:, 0] += 1.5 * labels
    features[:, 1] += 2.5 * places
    data = {"inputs": features.round(3).tolist(), "label": labels.tolist(), "place": places.tolist()}
    dataset = Dataset.from_dict({**data, "row": list(range(len(labels))), **columns})
    return dataset.cast_column("label", ClassLabel(names=[f"class{y}" for y in range(len(counts))]))


def sentences(counts: Sequence[Sequence[int]] = SKEWED, seed: int = 0, length: int = 8) -> Dataset:
    """Token ids in which a token stands for the label and another for the attribute."""
    labels, places = group_columns(counts, seed)
    tokens = np.random.default_rng(seed + 1).integers(10, 40, size=(len(labels), length))
    tokens[:, 0], tokens[:, 1], tokens[:, 2] = 2, 3 + labels, 6 + places
    mask = np.ones_like(tokens)
    return Dataset.from_dict(
        {
            "input_ids": tokens.tolist(),
            "attention_mask": mask.tolist(),
            "label": labels.tolist(),
            "place": places.tolist(),
        }
    )


def images(counts: Sequence[Sequence[int]] = SKEWED, seed: int = 0, side: int = 16) -> Dataset:
    """Raw grey images as bytes, to be decoded by [`decode_images`]."""
    labels, places = group_columns(counts, seed)
    pixels = np.random.default_rng(seed + 1).integers(0, 80, size=(len(labels), side, side))
    pixels[:, : side // 2] += 60 * labels[:, None, None]
    pixels[:, side // 2 :] += 100 * places[:, None, None]
    raw = [image.astype(np.uint8).tobytes() for image in pixels]
    return Dataset.from_dict({"image": raw, "label": labels.tolist(), "place": places.tolist()})


def decode_images(rows: dict[str, list]) -> dict[str, list]:
    """A transform as vision scripts use it: pixels in, the raw column out."""
    arrays = [np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1 for raw in rows["image"]]
    side = int(len(arrays[0]) ** 0.5)
    pixels = [torch.from_numpy(array.reshape(1, side, side)).expand(3, -1, -1).contiguous() for array in arrays]
    return {"pixel_values": pixels, **{key: rows[key] for key in ("label", "place") if key in rows}}


class MLPConfig(PreTrainedConfig):
    """Settings of [`MLP`]."""

    model_type = "test_mlp"

    def __init__(self, width: int = 6, hidden: int = 8, dropout: float = 0.0, loss_factor: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.hidden, self.dropout, self.loss_factor = width, hidden, dropout, loss_factor


class MLP(PreTrainedModel):
    """Two layers; `row` is accepted and ignored, so that it reaches the batches. With a `loss_factor` other than 1
    its own loss is not the cross-entropy."""

    config_class = MLPConfig
    main_input_name = "inputs"

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        self.first = nn.Linear(config.width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.second = nn.Linear(config.hidden, config.num_labels)
        self.post_init()

    def forward(self, inputs, labels=None, row=None):
        hidden = self.first(inputs.to(self.first.weight.dtype)).tanh()
        logits = self.second(self.dropout(hidden))
        loss = None if labels is None else self.config.loss_factor * F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def mlp(seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> MLP:
    """An [`MLP`] with the weights of `seed`."""
    torch.manual_seed(seed)
    model = MLP(MLPConfig(**config))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.to(dtype)


def bert(seed: int = 0, dtype: torch.dtype = torch.float32, dropout: float = 0.0, **config: Any):
    """A BERT with two layers of 16."""
    torch.manual_seed(seed)
    settings = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
        **config,
    )
    return BertForSequenceClassification(settings).to(dtype)


def resnet(seed: int = 0, dtype: torch.dtype = torch.float32):
    """A ResNet with BatchNorm and one block a stage."""
    torch.manual_seed(seed)
    settings = ResNetConfig(
        num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=2
    )
    return ResNetForImageClassification(settings).to(dtype)


def timm_resnet(seed: int = 0, **config: Any):
    """A ResNet of timm with BatchNorm, from scratch, in Transformers' wrapper."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification  # imports torchvision: slow

    torch.manual_seed(seed)
    model = TimmWrapperForImageClassification(TimmWrapperConfig(architecture="test_resnet", num_labels=2, **config))
    for parameter in model.parameters():
        if parameter.ndim == 1:  # timm starts with the residual branches switched off
            nn.init.uniform_(parameter, 0.1, 1.0)
    return model


def config(output_dir: Any, **settings: Any) -> GerneConfig:
    """A quiet config for the CPU: 8 rows a batch, SGD, groups by `place`."""
    defaults = dict(
        output_dir=str(output_dir),
        use_cpu=True,
        attribute_column="place",
        per_device_train_batch_size=8,
        per_device_eval_batch_size=16,
        max_steps=2,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    return GerneConfig(**{**defaults, **settings})


def trainer(output_dir: Any, model: Any = None, train: Any = None, **settings: Any) -> GerneTrainer:
    """A [`GerneTrainer`] over [`table`] with an [`MLP`], or over what is given. Settings that are arguments of the
    trainer go there, all others to the config."""
    names = (
        "data_collator",
        "eval_dataset",
        "model_init",
        "compute_loss_func",
        "compute_metrics",
        "callbacks",
        "optimizers",
        "preprocess_logits_for_metrics",
        "processing_class",
    )
    arguments = {name: settings.pop(name) for name in names if name in settings}
    cls: Callable = settings.pop("cls", GerneTrainer)
    return cls(
        model=mlp() if model is None and "model_init" not in arguments else model,
        args=config(output_dir, **settings),
        train_dataset=table() if train is None else train,
        **arguments,
    )


class Gradients(TrainerCallback):
    """Keeps the gradient of each optimizer step."""

    def __init__(self):
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        named = model.named_parameters()
        self.steps.append({name: p.grad.detach().clone() for name, p in named if p.grad is not None})


def watch_batches(trainer: GerneTrainer) -> list[dict[str, torch.Tensor]]:
    """A list that receives a copy of every batch that reaches `training_step`, which runs as ever."""
    batches: list[dict[str, torch.Tensor]] = []
    step = trainer.training_step

    def training_step(model, inputs, num_items_in_batch=None):
        batches.append({key: value.clone() for key, value in inputs.items()})
        return step(model, inputs, num_items_in_batch)

    trainer.training_step = training_step
    return batches


def step_gradient(trainer: GerneTrainer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The gradient that one real `training_step` leaves in the model for this batch."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, {key: value.clone() for key, value in batch.items()})
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return gradient


def first_batch(trainer: GerneTrainer) -> dict[str, torch.Tensor]:
    """The first training batch, as the trainer's own loop gets it."""
    return next(iter(own_loader(trainer)))


def own_loader(trainer: GerneTrainer) -> torch.utils.data.DataLoader:
    """The loader of the trainer's own loop, whose batches carry group ids."""
    with trainer.feeding_own_loop():
        return trainer.get_train_dataloader()


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    """Equal names and values, up to an absolute tolerance; exactly equal without one."""
    assert left.keys() == right.keys() and left
    for name in left:
        distance = (left[name].double() - right[name].double()).abs().max().item()
        assert distance <= tolerance, f"{name} differs by {distance:.3g}"


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the model's weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class Rows:
    """A map-style data set of dictionaries, with columns."""

    def __init__(self, dataset):
        self.dataset, self.column_names = dataset, dataset.column_names

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return self.dataset[key][:] if isinstance(key, str) else self.dataset[int(key)]


def launch(
    script: Any, *arguments: Any, processes: int = 2, options: Sequence[str] = (), **env: str
) -> subprocess.CompletedProcess:
    """Run a script on several processes by `accelerate launch`. With --cpu accelerate starts a second process only
    under mpirun: --multi_gpu starts all by torchrun, and the script's use_cpu=True keeps them on the CPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += options or ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    settings = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **env}
    return subprocess.run(
        [*command, "--main_process_port", "0", str(script), *map(str, arguments)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )


def launch_two(script: Any, *arguments: Any) -> str:
    """Run a script on two processes; what it printed."""
    done = launch(script, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
