"""The hooks of Transformers that gerne_hf overrides or relies on still exist with the parameters it expects.

Which they are stands in the table at the end of CONTRIBUTING.md, which is compared with the source of the rungs here.
"""

import ast
import inspect
import re
import textwrap

import pytest
import torch
import transformers.trainer
from accelerate import Accelerator
from helpers import Rows, bert, config, sentences, trainer
from huggingface_hub import HfApi
from places import ROOT
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.data import default_data_collator
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import logging

from gerne_hf import GerneTrainer
from gerne_hf.groups.batches import GROUP_KEY, GroupCollator
from gerne_hf.hub.uploads import uploading_through

RUNGS = [cls for cls in GerneTrainer.__mro__ if cls.__module__.startswith("gerne_hf")]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## Hooks of Transformers\n")[1]
TABLE = {
    (hook, use): set(re.findall(r"`(\w+)`", rungs))
    for hook, use, rungs in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", TEXT, flags=re.MULTILINE)
}
"""By hook and use (overrides, calls, sets), the rungs that do it."""


def used(use: str) -> list[str]:
    """The hooks of one use, as the table has them."""
    return [hook for hook, of in TABLE if of == use]


OVERRIDDEN = {
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "prediction_step": ["self", "model", "inputs", "prediction_loss_only", "ignore_keys"],
    "evaluation_loop": [
        *("self", "dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix")
    ],
    "evaluate": ["self", "eval_dataset", "ignore_keys", "metric_key_prefix"],
    "predict": ["self", "test_dataset", "ignore_keys", "metric_key_prefix"],
    "set_initial_training_values": ["self", "args", "dataloader"],
    "log": ["self", "logs", "start_time"],
    "train": ["self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
    "_get_train_sampler": ["self", "train_dataset"],
    "get_eval_dataloader": ["self", "eval_dataset"],
    "save_model": ["self", "output_dir", "_internal_call"],
    "init_hf_repo": ["self", "token", "private"],
    "push_to_hub": ["self", "commit_message", "blocking", "token", "revision", "private", "kwargs"],
    "_push_from_checkpoint": ["self", "checkpoint_folder"],
    "_finish_current_push": ["self"],
    "_get_dataloader": [
        *("self", "dataset", "description", "batch_size", "sampler_fn", "is_training", "dataloader_key")
    ],
    "hyperparameter_search": [
        *("self", "hp_space", "compute_objective", "n_trials", "direction", "backend", "hp_name", "kwargs")
    ],
    "_report_to_hp_search": ["self", "trial", "step", "metrics"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_best_model": ["self"],
    "_run_epoch": [
        *("self", "model", "epoch", "train_dataloader", "steps_in_epoch", "num_update_steps_per_epoch", "trial"),
        *("ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained"),
        "steps_trained_in_current_epoch",
    ],
    "create_model_card": [
        *("self", "language", "license", "tags", "model_name", "finetuned_from", "tasks", "dataset_tags", "dataset"),
        "dataset_args",
    ],
}
OTHER_DEFAULTS = {("hyperparameter_search", "direction"): "maximize"}  # accuracies, where Trainer has a loss
MORE_PARAMETERS = {
    "create_model_card": [
        *("dataset_revision", "dataset_license", "attribute_source", "other_settings"),
        *("license_name", "license_link", "example"),
    ],
}

CALLED = {
    "_get_collator_with_removed_columns": ["self", "data_collator", "description"],
    "_get_output_dir": ["self", "trial"],
    "_remove_unused_columns": ["self", "dataset", "description"],
    "add_callback": ["self", "callback"],
    "call_model_init": ["self", "trial"],
    "create_accelerator_and_postprocess": ["self"],
    "is_world_process_zero": ["self"],
}

PASSED_THROUGH = {
    "get_train_dataloader": ["self"],
    "get_test_dataloader": ["self", "test_dataset"],
    "_get_eval_sampler": ["self", "eval_dataset"],
    "_inner_training_loop": ["self", "batch_size", "args", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
}
"""Neither overridden nor called, but on the way from Trainer's loops to the hooks."""


def parameters(function):
    return list(inspect.signature(function).parameters)


# ---- the table ----------------------------------------------------------------------------------------------------

OF_TRAINER = {name for name in vars(Trainer) if not name.startswith("__")}
_ATTRIBUTES = [node for node in ast.walk(ast.parse(inspect.getsource(Trainer))) if isinstance(node, ast.Attribute)]
_OF_SELF = [node for node in _ATTRIBUTES if ast.unparse(node.value) == "self"]
READ_BY_TRAINER = {node.attr for node in _OF_SELF if isinstance(node.ctx, ast.Load)}
KEPT_BY_TRAINER = {node.attr for node in _OF_SELF if isinstance(node.ctx, ast.Store)} | set(
    inspect.get_annotations(Trainer)
)
"""Attributes that Trainer sets, or declares."""


def overridden_by(rung: type) -> set[str]:
    return set(vars(rung)) & OF_TRAINER


def called_by(rung: type) -> set[str]:
    """Methods of Trainer that a rung calls of itself, or of Trainer, and that no rung overrides."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rung)))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [(f.attr, ast.unparse(f.value)) for f in calls if isinstance(f, ast.Attribute)]
    overridden = {name for each in RUNGS for name in overridden_by(each)}
    mine = {name for name, owner in names if owner == "self" and name not in overridden}
    return (mine | {name for name, owner in names if owner == "Trainer"}) & OF_TRAINER


def set_by(rung: type) -> set[str]:
    """Attributes of Trainer that a rung sets."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rung)))
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return {node.attr for node in stored if ast.unparse(node.value) == "self"} & KEPT_BY_TRAINER


@pytest.mark.parametrize("use, done_by", [("overrides", overridden_by), ("calls", called_by), ("sets", set_by)])
def test_the_table_in_contributing_is_that_of_the_source(use, done_by):
    found = {}
    for rung in RUNGS:
        for name in done_by(rung):
            found.setdefault(name, set()).add(rung.__name__)
    assert {hook: rungs for (hook, of), rungs in TABLE.items() if of == use} == found


def test_the_table_counts_the_private_methods_that_are_overridden():
    private = [hook for hook in used("overrides") if hook.startswith("_")]
    (said,) = re.findall(r"Private methods of `Trainer` that are overridden: (\d+)\.", TEXT)
    assert len(private) == int(said) < 12  # there were 12 before the ladder


def test_every_line_of_the_table_is_guarded_here():
    assert {use for _, use in TABLE} == {"overrides", "calls", "sets"}
    assert set(used("overrides")) == set(OVERRIDDEN) and set(used("calls")) == set(CALLED)
    assert len(re.findall(r"^\| `", TEXT, flags=re.MULTILINE)) == len(TABLE)


# ---- each hook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [*OVERRIDDEN.items(), *CALLED.items(), *PASSED_THROUGH.items()])
def test_hooks_of_trainer(name, expected):
    assert parameters(getattr(Trainer, name)) == expected


@pytest.mark.parametrize("name", used("sets"))
def test_attributes_that_are_set_are_those_of_trainer(name):
    assert name in KEPT_BY_TRAINER
    assert name in READ_BY_TRAINER or name == "_trial"  # which a search leaves behind


def test_marks_that_are_taken_away():
    assert "_eval_dataloaders" in KEPT_BY_TRAINER and "_eval_dataloaders" in TEXT
    assert "model._is_accelerate_prepared = True" in inspect.getsource(Accelerator.prepare_model)
    assert "_is_accelerate_prepared" in TEXT


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overrides_can_be_called_as_trainer_calls_them(name):
    mine = inspect.signature(getattr(GerneTrainer, name))
    theirs = inspect.signature(getattr(Trainer, name))
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in mine.parameters.values())
    more = MORE_PARAMETERS.get(name, [])
    assert takes_any or list(mine.parameters) == [*theirs.parameters, *more]
    for parameter in mine.parameters.values():
        if parameter.name in more:
            assert parameter.default is None
        elif parameter.default is not inspect.Parameter.empty:
            default = OTHER_DEFAULTS.get((name, parameter.name), theirs.parameters[parameter.name].default)
            assert parameter.default == default


def test_no_other_part_of_trainer_is_overridden():
    mine = {name for cls in RUNGS for name in vars(cls)}
    assert mine & OF_TRAINER == set(OVERRIDDEN)


def test_constructor_is_that_of_trainer():
    mine, theirs = inspect.signature(GerneTrainer.__init__), inspect.signature(Trainer.__init__)
    *same, others = mine.parameters.values()
    assert [parameter.name for parameter in same] == list(theirs.parameters)
    assert others.kind is inspect.Parameter.VAR_KEYWORD  # of a trainer below, as in class Mine(GerneTrainer, Theirs)
    for name, parameter in theirs.parameters.items():
        assert (mine.parameters[name].default, mine.parameters[name].kind) == (parameter.default, parameter.kind)


def test_attributes_set_by_the_constructor(tmp_path):
    plain = Trainer(model=bert(), args=config(tmp_path), train_dataset=sentences())
    for name in (
        *("accelerator", "args", "callback_handler", "compute_metrics", "compute_loss_func", "data_collator"),
        *("eval_dataset", "is_in_train", "label_smoother", "label_names", "model", "preprocess_logits_for_metrics"),
        *("state", "train_dataset", "_train_batch_size", "loss_is_scaled_for_ga", "model_accepts_loss_kwargs"),
        *("hp_search_backend", "is_deepspeed_enabled"),
    ):
        assert hasattr(plain, name), name
    assert plain.model_accepts_loss_kwargs  # the trap that GerneTrainer sets itself free of
    subject = trainer(tmp_path, bert(), sentences())
    assert subject.model_accepts_loss_kwargs is False and subject.loss_is_scaled_for_ga is False


@pytest.mark.parametrize(
    "method, names",
    [
        ("training_step", ["self.compute_loss(", "self.loss_is_scaled_for_ga", "current_gradient_accumulation_steps"]),
        ("get_train_dataloader", ["self._get_train_sampler", "self._train_batch_size", "self._get_dataloader"]),
        ("_inner_training_loop", ["self.get_train_dataloader()", "on_epoch_begin"]),
        ("_inner_training_loop", ["self.set_initial_training_values(args, train_dataloader)", "on_train_begin("]),
        ("_prepare_for_training", ["self.callback_handler.train_dataloader = train_dataloader"]),
        ("_run_epoch", ["self.training_step(model, inputs, num_items_in_batch)", "self.accelerator.no_sync"]),
        ("get_test_dataloader", ['description="test"']),
        ("prediction_step", ["self.compute_loss(", "return_outputs=True", "logits = outputs[1:]"]),
        ("_save_checkpoint", ["self._save_rng_state(output_dir)", "self.state.save_to_json(", "rotate_checkpoints("]),
        ("_evaluate", ["self._report_to_hp_search(trial, self.state.global_step, metrics)"]),
        ("_hp_search_setup", ["self.hp_space(trial)", "setattr(self.args, key, value)", "type(old_attr)(value)"]),
        ("_report_to_hp_search", ["self.objective = self.compute_objective(metrics)", "raise optuna.TrialPruned()"]),
        ("_get_dataloader", ["self.data_collator", "self._remove_unused_columns", "_get_collator_with_removed"]),
        ("evaluate", ["self.get_eval_dataloader(eval_dataset)", "self.evaluation_loop"]),
        ("predict", ["self.get_test_dataloader(test_dataset)", "self.evaluation_loop"]),
        ("evaluation_loop", ["self.callback_handler.eval_dataloader = dataloader", "on_prediction_step("]),
        ("evaluation_loop", ["self.preprocess_logits_for_metrics(logits, labels)", "self.prediction_step("]),
    ],
)
def test_the_places_where_trainer_reaches_the_hooks(method, names):
    source = inspect.getsource(getattr(Trainer, method))
    for name in names:
        assert name in source, f"Trainer.{method} no longer has {name!r}"


def test_fields_of_training_arguments():
    fields = TrainingArguments.__dataclass_fields__
    for name in (
        *("label_smoothing_factor", "batch_eval_metrics", "data_seed", "seed", "train_sampling_strategy"),
        *("accelerator_config", "deepspeed", "load_best_model_at_end", "output_dir", "remove_unused_columns"),
    ):
        assert name in fields, name
    assert fields["train_sampling_strategy"].default == "random"
    for name in ("world_size", "should_save"):
        assert isinstance(getattr(TrainingArguments, name), property), name


def test_other_parts_of_the_libraries():
    assert EvalLoopOutput._fields == ("predictions", "label_ids", "metrics", "num_samples")
    assert parameters(EvalPrediction.__init__) == ["self", "predictions", "label_ids", "inputs", "losses"]
    assert parameters(TrainerCallback.on_epoch_begin)[:4] == ["self", "args", "state", "control"]
    assert parameters(Accelerator.no_sync) == ["self", "model"]
    assert parameters(Accelerator.reduce)[:3] == ["self", "tensor", "reduction"]
    assert callable(logging.get_logger("gerne_hf").warning_once)
    for name in ("best_global_step", "best_model_checkpoint", "epoch", "global_step", "log_history"):
        assert name in inspect.signature(TrainerState).parameters, name
    assert set(default_data_collator([{"label": 1, "inputs": [0.0]}])) == {"labels", "inputs"}


@pytest.mark.parametrize("rows", [lambda data: data, Rows], ids=["of datasets", "of another library"])
def test_columns_are_removed_inside_the_group_collator_and_not_again_outside(tmp_path, rows):
    """A second pass over the rows would meet no rows it knows."""
    subject = trainer(tmp_path, bert(), rows(sentences()))
    with subject.feeding_own_loop():
        loaders = subject.get_train_dataloader(), subject.get_test_dataloader(rows(sentences()))
    for loader in loaders:
        assert type(loader.collate_fn) is GroupCollator
        assert set(next(iter(loader))) == {"input_ids", "attention_mask", "labels", GROUP_KEY}
    wrapped = subject._get_collator_with_removed_columns(list, "training")
    assert wrapped([{"place": 1, "input_ids": [2]}]) == [{"input_ids": [2]}]
    subject.args.remove_unused_columns = False  # so it is while the loader is made
    assert subject._get_collator_with_removed_columns(list, "training") is list


def test_a_sampler_reaches_the_loader_as_it_is(tmp_path):
    subject = trainer(tmp_path, bert(), sentences())
    loader = subject.get_train_dataloader()
    assert loader.batch_sampler.sampler is subject._sampler
    assert isinstance(subject._sampler, torch.utils.data.Sampler)


def test_trainer_pushes_through_the_function_that_is_replaced():
    """`uploading_through` puts `create_repo` and `upload_folder` of `Uploads` in the place of those of a HfApi."""
    called = {"init_hf_repo": "create_repo", "push_to_hub": "upload_folder", "_push_from_checkpoint": "upload_folder"}
    for method, function in called.items():
        source = inspect.getsource(getattr(Trainer, method))
        assert f"hf_api().{function}(" in source and source.count("hf_api()") == source.count(f"hf_api().{function}(")
    with uploading_through(lambda: "ours"):
        assert transformers.trainer.hf_api() == "ours"
    assert isinstance(transformers.trainer.hf_api(), HfApi)
