"""The runs that kill_resume.py kills: tiny models on tiny data, in all ways of training that resume."""

import hashlib
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
for _name in ("HUB_OFFLINE", "DATASETS_OFFLINE", "HUB_DISABLE_TELEMETRY", "DATASETS_DISABLE_PROGRESS_BARS"):
    os.environ.setdefault(f"HF_{_name}", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import ViTConfig, ViTForImageClassification  # noqa: E402

sys.modules["gerne_hf.reports.plots"] = None  # pictures take longer than these runs

from gerne_hf import GerneTrainer  # noqa: E402
from gerne_hf.baselines import BaselineConfig, GroupDROTrainer  # noqa: E402
from gerne_hf.checkpoints import checkpoint_to_resume  # noqa: E402
from gerne_hf.comparison import compare  # noqa: E402

COUNTS = [[40, 8], [10, 30]]


@dataclass
class Setting:
    """One kind of run: what is different from a run of 14 steps, 11 of them in the first epoch."""

    name: str
    config: dict = field(default_factory=dict)
    kind: str = "train"
    processes: int = 1
    augmented: bool = False
    trainer: type[GerneTrainer] = GerneTrainer


EPOCHS = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch", "eval_strategy": "epoch"}
BEST = {"load_best_model_at_end": True, "save_total_limit": 1, "eval_strategy": "steps", "eval_steps": 3}
SETTINGS = (
    Setting("independent, mid-epoch", {"save_total_limit": 1}),
    Setting("shared, 2 workers", {"plan": "shared", "dataloader_num_workers": 2}),
    Setting("augmented images, 0 workers", {"plan": "collapsed"}, augmented=True),
    Setting("augmented images, 2 workers", {"dataloader_num_workers": 2}, augmented=True),
    Setting("reweighting, accumulation 3", {"plan": "reweighting", "gradient_accumulation_steps": 3, "save_steps": 2}),
    Setting("resampling, epochs, best model", {"plan": "resampling", **EPOCHS, **BEST, "eval_strategy": "epoch"}),
    Setting("erm, steps saved, epochs evaluated", {"plan": "erm", "eval_strategy": "epoch", "save_steps": 1}),
    Setting("separate forwards, linear beta", {"forward_mode": "separate", "beta_schedule": "linear", **BEST}),
    Setting("Group DRO", {"plan": "resampling", "save_total_limit": 2}, trainer=GroupDROTrainer),
    Setting("pseudo-attributes", {"pseudo_attributes": True, "threshold": 0.2, "biased_epochs": 1.5, **BEST}),
    Setting("search, then the run", {"save_steps": 4, "max_steps": 6}, kind="search"),
    Setting("comparison", {"pseudo_attributes": True, "threshold": 0.2, "max_steps": 6}, kind="comparison"),
    Setting("independent, 2 processes", {"save_total_limit": 1}, processes=2),
    Setting("shared, 2 processes, 2 workers", {"plan": "shared", "dataloader_num_workers": 2}, processes=2),
    Setting("pseudo-attributes, 2 processes", {"pseudo_attributes": True, "threshold": 0.2, **BEST}, processes=2),
)


# ---- what is trained ----------------------------------------------------------------------------------------------


def rows(counts: list[list[int]], seed: int, augmented: bool) -> Dataset:
    """Images of 4 x 4 pixels in which label and attribute are each a noisy direction."""
    pairs = [(y, a) for y, row in enumerate(counts) for a, count in enumerate(row) for _ in range(count)]
    rng = np.random.default_rng(seed)
    labels, places = rng.permutation(np.array(pairs)).T
    pixels = rng.normal(size=(len(labels), 16))
    pixels[:, 0] += 1.5 * labels
    pixels[:, 1] += 2.5 * places
    columns = {"pixel_values": pixels.reshape(-1, 1, 4, 4), "label": labels, "place": places}
    dataset = Dataset.from_dict({name: values.tolist() for name, values in columns.items()})
    return dataset.with_transform(augment) if augmented else dataset


def augment(batch: dict) -> dict:
    """Noise, from all three global generators."""
    pixels = torch.tensor(batch["pixel_values"]) * (1 + 0.1 * random.random())
    return {**batch, "pixel_values": pixels + 0.1 * torch.randn(pixels.shape) * np.random.rand()}


def config_of(setting: Setting, folder: Path) -> BaselineConfig:
    """The settings of a run; dropout is on and the optimizer has a state, so that all of it must be restored."""
    common = dict(
        output_dir=str(folder / "out"),
        attribute_column="place",
        per_device_train_batch_size=8,
        per_device_eval_batch_size=64,
        max_steps=14,
        save_strategy="steps",
        save_steps=3,
        optim="adamw_torch",
        learning_rate=0.02,
        lr_scheduler_type="cosine",
        logging_steps=5,
        remove_unused_columns=False,
        use_cpu=True,
        ddp_backend="gloo" if setting.processes > 1 else None,
        disable_tqdm=True,
        report_to="none",
        worst_examples=0,
        restore_callback_states_from_checkpoint=False,
    )
    return BaselineConfig(**{**common, **setting.config})


def train(setting: Setting, folder: Path) -> dict[str, torch.Tensor]:
    """A run from where it stands in `folder` to its end; the final weights."""
    data = rows(COUNTS, 0, setting.augmented)
    held_out = rows([[9, 14], [11, 3]], 5, False)
    model_config = ViTConfig(
        image_size=4,
        patch_size=2,
        num_channels=1,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.3,
        num_labels=2,
    )

    def make_trainer(run: BaselineConfig, trainer_class: type[GerneTrainer] = setting.trainer) -> GerneTrainer:
        return trainer_class(
            model_init=lambda: ViTForImageClassification(model_config),
            args=run,
            train_dataset=data,
            eval_dataset=held_out,
        )

    config = config_of(setting, folder)
    if setting.kind == "comparison":
        config.resume_from_checkpoint = "true"
        compare(["erm", "dfr", "pseudo"], config, make_trainer, rows(COUNTS, 7, False), (0, 1))
        return load_file(Path(config.output_dir) / "model.safetensors")
    if setting.kind == "search":
        found = dict(make_trainer(config).hyperparameter_search(n_trials=4).hyperparameters)
        for name, value in found.items():
            setattr(config, name, value)
    trainer = make_trainer(config)
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(config.output_dir))
    return trainer.accelerator.unwrap_model(trainer.model).state_dict()


def digest(weights: dict[str, torch.Tensor]) -> str:
    """sha256 of names and bytes."""
    total = hashlib.sha256()
    for name, value in sorted(weights.items()):
        total.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return total.hexdigest()
