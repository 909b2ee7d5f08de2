"""Under plan="erm" GerneTrainer behaves as Trainer: the same steps, events, keys of logs, types and figures.

Each case is a function that builds one trainer, or several, uses it as a script does, and returns what is to be the
same. Evaluations of GerneTrainer have the figures of groups besides.
"""

import os
import re

import numpy as np
import pytest
import torch
from helpers import MLP, config, mlp, table
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_utils import PredictionOutput, TrainOutput

from gerne_hf import GerneTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")

EPOCHS = dict(max_steps=-1, num_train_epochs=2)
BY_STEPS = dict(max_steps=8, eval_strategy="steps", eval_steps=4, save_strategy="steps", save_steps=4)
TIMES = re.compile("runtime|per_second|_time$")
OF_GROUPS = re.compile(
    "accuracy|group|class|_(low|high|count|rows)$|nan|unseen|loss_(biased|less_biased|extrapolated)"
)
"""Figures that Trainer does not have."""


class Figures(dict):
    """Metrics or logs, to which GerneTrainer may add the figures of groups."""


def figures(entries):
    return [Figures(entry) for entry in entries]


def assert_agree(stock, ours, place="result"):
    """The same types and values, floats up to rounding, times by their type alone."""
    assert type(ours) is type(stock), f"{place}: {type(stock)} and {type(ours)}"
    if isinstance(stock, dict):
        more = [key for key in ours if key not in stock and not (type(stock) is Figures and OF_GROUPS.search(key))]
        assert not more and not [key for key in stock if key not in ours], f"{place}: {sorted(stock)}, {sorted(ours)}"
        for key, value in stock.items():
            if TIMES.search(str(key)):
                assert type(ours[key]) is type(value)
            else:
                assert_agree(value, ours[key], f"{place}.{key}")
    elif isinstance(stock, (list, tuple)):
        assert len(stock) == len(ours), f"{place}: {stock[-1]}, {ours[-1]}"
        for i, (left, right) in enumerate(zip(stock, ours, strict=True)):
            assert_agree(left, right, f"{place}[{i}]")
    elif isinstance(stock, np.ndarray):
        assert stock.dtype == ours.dtype and np.allclose(stock, ours, atol=1e-5), place
    elif isinstance(stock, float):
        assert ours == pytest.approx(stock, abs=1e-4), place
    else:
        assert stock == ours, place


class Recorder(TrainerCallback):
    """Names each event, with the names of the arguments that it is given."""

    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def keep(args, state, control, **given):
            self.events.append((name, state.global_step, sorted(given)))

        return keep


def accuracy(prediction):
    assert prediction.label_ids.ndim == 1
    return {"right": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def state_of(trainer):
    state = trainer.state
    return {
        "global_step": state.global_step,
        "max_steps": state.max_steps,
        "epochs": state.num_train_epochs,
        "epoch": state.epoch,
        "batch": state.train_batch_size,
        "every": (state.logging_steps, state.eval_steps, state.save_steps),
        "flops": state.total_flos,
        "best": (state.best_metric, state.best_global_step),
        "logs": figures(state.log_history),
        "weights": [p.detach().numpy().copy() for p in trainer.model.parameters()],
    }


def trained(make, **settings):
    evaluates = settings.get("eval_strategy", "no") != "no"
    trainer = make(**settings) if evaluates else make(eval_dataset=None, **settings)
    output = trainer.train()
    assert type(output) is TrainOutput
    return {**state_of(trainer), "output": (output.global_step, output.training_loss, Figures(output.metrics))}


CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


TRAINED = {
    "steps": {"max_steps": 5},
    "epochs": EPOCHS,
    "a fraction of an epoch": {"max_steps": -1, "num_train_epochs": 1.5},
    "max_steps beyond an epoch": {"max_steps": 15, "logging_steps": 4},
    "accumulation": {**EPOCHS, "gradient_accumulation_steps": 3},
    "drop_last": {**EPOCHS, "dataloader_drop_last": True, "per_device_train_batch_size": 12},
    "logging_steps": {"max_steps": 8, "logging_steps": 3, "logging_first_step": True},
    "logging by epochs": {**EPOCHS, "logging_strategy": "epoch"},
    "no logs": {"max_steps": 2, "logging_strategy": "no"},
    "linear": {"max_steps": 6, "lr_scheduler_type": "linear", "warmup_steps": 2},
    "cosine": {"max_steps": 6, "lr_scheduler_type": "cosine"},
    "adamw": {"max_steps": 6, "optim": "adamw_torch", "weight_decay": 0.1},
    "label smoothing": {"max_steps": 6, "label_smoothing_factor": 0.2},
    "clipping": {"max_steps": 4, "max_grad_norm": 0.01},
    "data_seed": {"max_steps": 4, "data_seed": 7},
    "seed": {"max_steps": 4, "seed": 5},
    "torch_compile off": {"max_steps": 2, "torch_compile": False},
    "evaluation by steps": {**BY_STEPS, "save_strategy": "no"},
    "evaluation by epochs": {**EPOCHS, "eval_strategy": "epoch"},
    "eval_on_start": {**BY_STEPS, "eval_on_start": True},
    "eval_delay": {**BY_STEPS, "eval_delay": 5},
    "the best model": {**BY_STEPS, "load_best_model_at_end": True, "metric_for_best_model": "loss"},
    "tokens seen": {"max_steps": 3, "include_num_input_tokens_seen": "all"},
}


@case
def events(make):
    recorder = Recorder()
    make(callbacks=[recorder], gradient_accumulation_steps=2, **BY_STEPS).train()
    return recorder.events


@case
def evaluation(make):
    trainer = make()
    metrics = trainer.evaluate()
    return (
        Figures(metrics),
        figures(trainer.state.log_history),
        [type(value) is float for value in metrics.values()][:1],
    )


@case
def evaluation_of_another_set_by_another_name(make):
    return Figures(make().evaluate(table(seed=9), metric_key_prefix="other"))


@case
def evaluation_of_several_sets(make):
    trainer = make(eval_dataset={"one": table(seed=8), "two": table(seed=9)}, **BY_STEPS)
    trainer.train()
    return figures(trainer.state.log_history), Figures(trainer.evaluate())


@case
def loss_only(make):
    return Figures(make(prediction_loss_only=True, compute_metrics=None).evaluate())


@case
def prediction(make):
    output = make().predict(table(seed=9))
    assert type(output) is PredictionOutput
    return output.predictions, output.label_ids, Figures(output.metrics)


@case
def metrics_of_ones_own(make):
    settings = {**BY_STEPS, "load_best_model_at_end": True, "metric_for_best_model": "right"}
    trainer = make(compute_metrics=accuracy, **settings)
    trainer.train()
    return state_of(trainer), Figures(trainer.evaluate())


@case
def preprocessed_logits(make):
    def chosen(logits, labels):
        assert labels.ndim == 1
        return logits.argmax(-1)

    def right(prediction):
        return {"right": float((prediction.predictions == prediction.label_ids).mean())}

    trainer = make(compute_metrics=right, preprocess_logits_for_metrics=chosen)
    return Figures(trainer.evaluate()), trainer.predict(table(seed=9)).predictions


@case
def metrics_by_batches(make):
    seen = []

    def count(prediction, compute_result):
        seen.append(len(prediction.label_ids))
        return {"batches": len(seen)} if compute_result else {}

    return Figures(make(compute_metrics=count, batch_eval_metrics=True).evaluate()), seen


@case
def inputs_and_losses_for_metrics(make):
    def shapes(prediction):
        return {"inputs": prediction.inputs.shape[0], "losses": prediction.losses.shape[0]}

    trainer = make(compute_metrics=shapes, include_for_metrics=["inputs", "loss"])
    return Figures(trainer.evaluate())


@case
def ready_optimizers(make):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    trainer = make(model=model, optimizers=(optimizer, schedule), max_steps=5, eval_dataset=None)
    trainer.train()
    assert trainer.optimizer.optimizer is optimizer if hasattr(trainer.optimizer, "optimizer") else True
    return state_of(trainer)


@case
def an_optimizer_class(make):
    return trained(make, optimizer_cls_and_kwargs=(torch.optim.Adagrad, {"lr": 0.05}), max_steps=4)


@case
def model_init(make):
    trainer = make(model=None, model_init=lambda: mlp(seed=4), max_steps=3, data_seed=7, eval_dataset=None)
    trainer.train()
    first = state_of(trainer)
    trainer.train()
    return first, state_of(trainer)


@case
def training_twice_goes_on_with_the_weights(make):
    trainer = make(max_steps=3, eval_dataset=None)
    trainer.train()
    trainer.train()
    return state_of(trainer)


@case
def checkpoints(make):
    trainer = make(**{**BY_STEPS, "save_steps": 2, "save_total_limit": 2})
    trainer.train()
    kept = sorted(name for name in os.listdir(trainer.args.output_dir) if name.startswith("checkpoint-"))
    last = set(os.listdir(os.path.join(trainer.args.output_dir, kept[-1])))
    return kept, sorted(last - {"checkpoint.json", "group_metrics.json"})


@case
def a_resumed_run(make):
    make(**BY_STEPS).train()
    folder = make(**BY_STEPS).args.output_dir
    trainer = make(**BY_STEPS)
    trainer.train(resume_from_checkpoint=os.path.join(folder, "checkpoint-4"))
    return state_of(trainer)


@case
def early_stopping(make):
    settings = {**BY_STEPS, "max_steps": 40, "metric_for_best_model": "loss", "learning_rate": 4.0}
    return trained(make, callbacks=[EarlyStoppingCallback(early_stopping_patience=1)], **settings)


@case
def callbacks_that_come_and_go(make):
    class Stops(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2
            return control

    trainer = make(max_steps=5, eval_dataset=None)
    trainer.add_callback(Stops)
    trainer.train()
    stopped = state_of(trainer)
    popped = type(trainer.pop_callback(Stops)).__name__
    trainer.train()
    return stopped, popped, trainer.state.global_step


class OutOfMemory(MLP):
    """Too large for more than 6 rows."""

    def forward(self, inputs, labels=None, row=None):
        if self.training and len(inputs) > 6:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return super().forward(inputs, labels)


@case
def a_batch_size_that_is_found(make):
    model = OutOfMemory(mlp().config)
    model.load_state_dict(mlp().state_dict())
    return trained(make, model=model, auto_find_batch_size=True, per_device_train_batch_size=7, max_steps=2)


@case
def loaders(make):
    trainer = make(per_device_train_batch_size=12)
    train, held_out = trainer.get_train_dataloader(), trainer.get_eval_dataloader()
    return len(train), len(held_out), trainer.num_examples(train), trainer.num_examples(held_out)


@case
def groups_of_parameters(make):
    trainer = make(optim="adamw_torch", weight_decay=0.1, learning_rate=0.01)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    groups = [(len(g["params"]), g["weight_decay"], g["lr"]) for g in trainer.optimizer.param_groups]
    return groups, sorted(trainer.get_decay_parameter_names(trainer.model))


@case
def what_scripts_write(make):
    trainer = make(max_steps=2)
    result = trainer.train()
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_state()
    found = set(os.listdir(trainer.args.output_dir))
    return sorted(name for name in found if not name.startswith("_") and name != "group_metrics.json")


def maker(cls, folder):
    """What builds trainers of a class in a folder, by settings of the config and arguments of the trainer."""

    def make(**settings):
        arguments = ("model", "model_init", "eval_dataset", "callbacks", "optimizers", "optimizer_cls_and_kwargs")
        arguments += ("compute_metrics", "preprocess_logits_for_metrics")
        given = {name: settings.pop(name) for name in arguments if name in settings}
        args = config(folder, plan="erm", class_balanced=False, **settings)
        defaults = {"model": mlp(), "eval_dataset": table(seed=3)}
        return cls(args=args, train_dataset=table(), **{**defaults, **given})

    return make


@pytest.mark.parametrize("settings", TRAINED.values(), ids=TRAINED)
def test_training_is_that_of_trainer(tmp_path, settings):
    stock, ours = (trained(maker(cls, tmp_path / cls.__name__), **settings) for cls in (Trainer, GerneTrainer))
    assert_agree(stock, ours)


@pytest.mark.parametrize("use", CASES.values(), ids=CASES)
def test_it_is_used_as_trainer_is(tmp_path, use):
    stock, ours = (use(maker(cls, tmp_path / cls.__name__)) for cls in (Trainer, GerneTrainer))
    assert_agree(stock, ours)
