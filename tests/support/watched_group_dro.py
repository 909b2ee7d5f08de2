"""Group DRO trainers, and one of which the batches and each step's q are kept."""

from dataclasses import fields

from helpers import config, mlp, table, watch_batches
from transformers import TrainerCallback

from gerne_hf.baselines import BaselineConfig, GroupDROTrainer

ETA = 0.3


def settings_of(output_dir, step_size=ETA, adjustment=0.0, **settings):
    plain = config(output_dir, **{"plan": "resampling", **settings})
    given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
    return BaselineConfig(**given, group_dro_step_size=step_size, group_dro_adjustment=adjustment)


def group_dro(output_dir, model=None, train=None, step_size=ETA, hooks=None, **settings):
    args = settings_of(output_dir, step_size, **settings)
    data = table() if train is None else train
    model = mlp() if model is None and "model_init" not in (hooks or {}) else model
    return GroupDROTrainer(model=model, args=args, train_dataset=data, **(hooks or {}))


class NoteWeights(TrainerCallback):
    """Keeps q after each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(self.subject.group_weights.clone())


def watched(output_dir, model=None, train=None, **settings):
    """A trainer, its batches and q after each step."""
    note = NoteWeights()
    hooks = settings.pop("hooks", {})
    hooks = {**hooks, "callbacks": [note, *hooks.get("callbacks", [])]}
    note.subject = subject = group_dro(output_dir, model, train, hooks=hooks, **settings)
    return subject, watch_batches(subject), note.steps
