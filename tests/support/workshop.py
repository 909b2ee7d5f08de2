"""A small recipe for the tests of comparisons: data, trainers, and what happened in which order."""

from dataclasses import fields

from helpers import config, mlp, table
from torch.utils.data import Dataset
from transformers import TrainerCallback

from gerne_hf.baselines import BaselineConfig
from gerne_hf.comparison.comparing import compare
from gerne_hf.recipes.arguments import RecipeArguments
from gerne_hf.recipes.run import run_recipe

TRAIN, VALIDATION, TEST = [[60, 12], [8, 20]], [[9, 8], [7, 9]], [[11, 12], [13, 14]]


class Watched(Dataset):
    """Writes each row that is fetched among the events: its number, or the name of the set."""

    column_names = ("label", "place", "inputs")

    def __init__(self, data, events, name=None):
        self.data, self.events, self.name = data, events, name

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.data[key]
        self.events.append(key if self.name is None else self.name)
        return self.data[int(key)]


class NoteTraining(TrainerCallback):
    def __init__(self, events):
        self.events = events

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append(f"begin {args.plan}")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("step")


class Workshop:
    """Data, `make_trainer` and what came of it: configs, trainers, events."""

    def __init__(self, folder, interrupt_at=None, **settings):
        plain = config(folder, **{"learning_rate": 0.3, "save_strategy": "no", "worst_examples": 0, **settings})
        given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
        self.config, self.folder = BaselineConfig(**given), folder
        self.events, self.configs, self.trainers, self.interrupt_at = [], [], [], interrupt_at
        self.train, self.validation = table(TRAIN), table(VALIDATION, seed=8)
        self.test = Watched(table(TEST, seed=9), self.events, "test")

    def make_trainer(self, run, trainer_class):
        if len(self.trainers) == self.interrupt_at:
            raise KeyboardInterrupt
        self.configs.append(run)
        subject = trainer_class(
            model_init=lambda: mlp(run.seed),
            args=run,
            train_dataset=self.train,
            eval_dataset=self.validation,
            callbacks=[NoteTraining(self.events)],
        )
        self.trainers.append(subject)
        return subject

    def compare(self, methods, seeds=(0,), settings=None):
        return compare(methods, self.config, self.make_trainer, self.test, seeds, settings)

    def run_recipe(self, **arguments):
        return run_recipe(RecipeArguments(**arguments), self.config, self.make_trainer, self.test)

    @property
    def begun(self):
        return [event for event in self.events if event.startswith("begin")]
