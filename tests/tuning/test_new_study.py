"""A search is gone on with by the same search alone; another in the same folder is a new study, and that is said."""

import numpy as np
import optuna
import pytest
import torch
from helpers import mlp, table
from searches import Evaluations, searching, the_search
from torch.nn import functional as F
from transformers import EarlyStoppingCallback, default_data_collator

from gerne_hf import GerneTrainer
from gerne_hf.recipes.run import tune

pytestmark = pytest.mark.usefixtures("quick_and_quiet")


def negated(dataset):
    return dataset.map(lambda row: {"inputs": [-value for value in row["inputs"]]})


def doubled_loss(outputs, labels, num_items_in_batch=None):
    return 2 * F.cross_entropy(outputs.logits, labels)


class Other(GerneTrainer):
    """A trainer of a user."""

    def get_beta(self, progress):
        return super().get_beta(progress) / 2


CHANGES = {
    "model": (dict(model_init=lambda: mlp(hidden=5)), "model_config was"),
    "weights": (dict(model_init=lambda: mlp(seed=3)), "initial_weights was"),
    "training rows": (dict(train=negated(table())), "training_rows was"),
    "evaluation set": (dict(eval_dataset=table(seed=6)), "evaluation_rows was"),
    "evaluation inputs": (dict(eval_dataset=negated(table(seed=5))), "evaluation_rows was"),
    "transform": (dict(train=table().with_transform(lambda rows: rows)), "training_rows was"),
    "optimizer": (dict(optim="adamw_torch"), "optim was 'sgd' and is 'adamw_torch'"),
    "scheduler": (dict(lr_scheduler_type="cosine"), "lr_scheduler_type was 'constant' and is 'cosine'"),
    "seed": (dict(seed=3), "seed was 42 and is 3"),
    "plan": (dict(plan="shared"), "plan was 'independent' and is 'shared'"),
    "steps": (dict(max_steps=5), "max_steps was 4 and is 5"),
    "metric": (dict(metric_for_best_model="accuracy"), "'worst_group_accuracy' and is 'accuracy'"),
    "collator": (dict(data_collator=lambda rows: default_data_collator(rows)), "data_collator was"),
    "loss": (dict(compute_loss_func=doubled_loss), "compute_loss_func was"),
    "trainer": (dict(cls=Other), "trainer was"),
    "early stopping": (
        dict(
            callbacks=[EarlyStoppingCallback(3)], metric_for_best_model="worst_group_accuracy", eval_strategy="steps"
        ),
        "early_stopping was",
    ),
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_search", lambda *args: None)
        patch.setattr("builtins.print", lambda *args, **kwargs: None)
        best = searching(folder).hyperparameter_search(n_trials=1)
    return folder, best


@pytest.mark.parametrize("change", CHANGES)
def test_another_search_is_a_new_study(searched, change, capsys):
    folder, _ = searched
    settings, message = CHANGES[change]
    if "early" in change:
        settings |= dict(metric_for_best_model="worst_group_accuracy", save_strategy="steps")
        settings |= dict(load_best_model_at_end=True)
    watch = Evaluations()
    subject = searching(folder, **settings)
    subject.add_callback(watch)
    subject.hyperparameter_search(n_trials=1)
    said = capsys.readouterr().out
    assert len(watch.trials) == 1 and "This search is a new study, 'gerne_hf-" in said and message in said
    assert the_search(folder)["study"].startswith("gerne_hf-") and len(the_search(folder)["trials"]) == 1


def test_the_same_search_is_gone_on_with_and_no_trial_at_all_is_said(searched, capsys):
    folder, best = searched
    for settings in ({}, {"logging_steps": 7}, {"c": 0.5, "beta": 1.0}):
        watch = Evaluations()
        subject = searching(folder, callbacks=[watch], **settings)
        assert tune(subject, 1) == best.hyperparameters and not watch.trials
        assert "has 1 trials of this very search, and n_trials=1: 0 trials are run" in capsys.readouterr().out
    subject = searching(folder)
    subject.train()
    subject.hyperparameter_search(n_trials=1)  # a model that was trained meanwhile is not what trials begin with
    assert "0 trials are run" in capsys.readouterr().out and the_search(folder)["study"] == "gerne_hf"


def test_trials_of_a_later_study_have_a_folder_of_their_own(tmp_path, capsys):
    saving = {"save_strategy": "steps", "save_steps": 2}
    searching(tmp_path, **saving).hyperparameter_search(n_trials=1)
    searching(tmp_path, seed=3, **saving).hyperparameter_search(n_trials=1)
    searching(tmp_path, seed=4, **saving).hyperparameter_search(n_trials=1)
    folders = {path.parent.relative_to(tmp_path / "search").as_posix() for path in tmp_path.rglob("checkpoint-4")}
    assert folders == {"run-0", "gerne_hf-2/run-0", "gerne_hf-3/run-0"}
    capsys.readouterr()
    searching(tmp_path, seed=3, **saving).hyperparameter_search(n_trials=1)
    assert "'gerne_hf-2' has 1 trials of this very search" in capsys.readouterr().out


def test_a_study_of_an_earlier_release_is_left_alone(tmp_path, capsys):
    (tmp_path / "search").mkdir()
    storage = f"sqlite:///{tmp_path}/search/study.db"
    study = optuna.create_study(study_name="gerne_hf", storage=storage, direction="maximize")
    study.set_user_attr("made_with", {"plan": "independent", "learning_rate": 0.1})
    study.add_trial(optuna.trial.create_trial(value=1.0, params={}, distributions={}))
    assert searching(tmp_path).hyperparameter_search(n_trials=1).objective < 1
    assert "'gerne_hf-2'" in (said := capsys.readouterr().out) and "initial_weights was None" in said


def test_what_cannot_be_told_apart_is_gone_on_with_by_name_alone(tmp_path, capsys, caplog):
    rng = np.random.default_rng(0)

    def shuffling(rows):
        rng.permutation(2)
        return default_data_collator(rows)

    for _ in range(2):
        searching(tmp_path, data_collator=shuffling).hyperparameter_search(n_trials=1)
    assert the_search(tmp_path)["study"] == "gerne_hf-2"
    said = capsys.readouterr().out
    assert (
        "no fingerprint can be made of data_collator (a random generator" in said and "study_name='gerne_hf'" in said
    )
    subject = searching(tmp_path, data_collator=shuffling)
    subject.hyperparameter_search(n_trials=1, study_name="gerne_hf")
    assert "0 trials are run" in capsys.readouterr().out
    assert any("goes on, though no fingerprint can be made of data_collator" in text for text in caplog.messages)


def test_weights_that_the_seed_does_not_decide_are_another_search(tmp_path, capsys):
    def drawn():
        model = mlp()
        torch.nn.init.constant_(model.first.weight, np.random.default_rng().normal())
        return model

    for _ in range(2):
        searching(tmp_path, model_init=drawn).hyperparameter_search(n_trials=1)
    assert "initial_weights was" in capsys.readouterr().out
