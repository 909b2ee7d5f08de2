"""Experiments of the paper besides its tables: beta swept, t swept, GERNE against SW, and CelebA's validation set.

Imports `comparison`, `trainer.py` and rooms below. Each experiment stands in the place of [`run_recipe`] in a recipe:
it is given the recipe's config, its way to make a trainer and its test set. `recipes/paper.py` runs them. With
`--resume_from_checkpoint true` the runs that have ended are not repeated.
"""

import functools
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import TrainerCallback

from ..comparison.comparing import MakeTrainer
from ..comparison.methods import method_config
from ..config import GerneConfig
from ..groups.index import GroupIndex
from ..trainer import GerneTrainer
from .arguments import RecipeArguments
from .ended_runs import EndedRuns

Rows = list[dict[str, Any]]
"""What an experiment returns: a dictionary for each run, or for each setting."""

Experiment = Callable[[RecipeArguments, GerneConfig, MakeTrainer, Any], Rows]

_NO_FILES: dict[str, Any] = {"save_strategy": "no", "load_best_model_at_end": False, "push_to_hub": False}
_CURVES = ("minority accuracy", "majority accuracy", "minority loss", "majority loss")


def minority_groups(groups: GroupIndex) -> np.ndarray:
    """Return which groups are a minority of their class: those with fewer rows than an even share.

    Args:
        groups ([`GroupIndex`]): the groups of the training rows.

    Returns:
        `np.ndarray` of shape `(K, A)`, bool.

    Example:

    ```python
    >>> minority_groups(GroupIndex.from_arrays([0] * 5 + [1] * 4, [0, 0, 0, 0, 1, 0, 1, 1, 1])).tolist()
    [[False, True], [True, False]]

    ```
    """
    return groups.alpha < 1.0 / groups.num_attributes


class GroupCurves(TrainerCallback):
    """Note the accuracy and the cross-entropy of minority and majority groups at every evaluation of a training.

    Both are means over rows. A forward pass over each set is added to every evaluation.

    Args:
        trainer ([`GerneTrainer`]): the trainer whose model is looked at.
        sets (`dict[str, Any]`): data sets by name, with the attributes of the training set.
    """

    def __init__(self, trainer: GerneTrainer, sets: dict[str, Any]):
        self.trainer, self.sets = trainer, sets
        self.points: list[dict[str, Any]] = []
        minority = minority_groups(trainer.known_groups).ravel()
        self._minority = {
            name: minority[cast(GroupIndex, trainer.sets.index(rows, name)).codes] for name, rows in sets.items()
        }

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Add a point for each set, at the step of the evaluation; of several at one step, the first has them."""
        if any(point["step"] == state.global_step for point in self.points):
            return
        for name, rows in self.sets.items():
            output = self.trainer.predict(rows)
            labels = torch.as_tensor(output.label_ids)
            logits = torch.as_tensor(output.predictions).float()
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none").numpy()
            right = (logits.argmax(dim=1) == labels).numpy()
            point: dict[str, Any] = {"set": name, "step": state.global_step}
            for which, mask in (("minority", self._minority[name]), ("majority", ~self._minority[name])):
                if mask.any():
                    point[f"{which} accuracy"] = float(right[mask].mean())
                    point[f"{which} loss"] = float(losses[mask].mean())
            self.points.append(point)


def sweep_beta(betas: Sequence[float], seeds: Sequence[int]) -> Experiment:
    """Return Fig. 2 of the paper: GERNE at several values of beta, with curves of minority and majority.

    Args:
        betas (`Sequence[float]`): extrapolation factors. Those outside the bounds of Eq. 9 are trained after a
            warning: what happens there is what the figure shows.
        seeds (`Sequence[int]`): seeds of the runs.

    Returns:
        `Callable`: an experiment. It returns a dictionary for each run: `beta`, `seed`, `curves` (the points of
        [`GroupCurves`]), and the summaries `validation` and `test`.
    """

    def run(arguments: RecipeArguments, config: GerneConfig, make_trainer: MakeTrainer, test: Any) -> Rows:
        ended = EndedRuns(arguments, config, test)

        def trained(own: GerneConfig) -> dict[str, Any]:
            trainer = make_trainer(own, GerneTrainer)
            curves = GroupCurves(trainer, {"training": trainer.train_dataset, "validation": trainer.eval_dataset})
            trainer.add_callback(curves)
            trainer.train()
            return {"curves": curves.points, **_figures(trainer, test)}

        rows = []
        for beta in betas:
            for seed in seeds:
                more = {"beta": beta, "beta_out_of_bounds": "warn", "seed": seed, **_NO_FILES}
                folder = os.path.join(config.folder, f"beta-{beta:g}-seed{seed}")
                own = method_config(config, "independent", output_dir=folder, **more)
                rows.append({"beta": beta, "seed": seed, **ended.result(own, lambda: trained(own))})  # noqa: B023
        return rows

    return run


def sweep_threshold(thresholds: Sequence[float], betas: Sequence[float], seeds: Sequence[int]) -> Experiment:
    """Return Fig. 3 of the paper: for each share t of hard rows the best beta, and the accuracy at it.

    Args:
        thresholds (`Sequence[float]`): values of t, in (0, 1).
        betas (`Sequence[float]`): extrapolation factors that are tried at each t.
        seeds (`Sequence[int]`): seeds of the runs. The biased model is trained once a seed, in one fold, as in the
            paper.

    Returns:
        `Callable`: an experiment. It returns a dictionary for each t, beta and seed, `chosen` where the beta has the
        best validation figure (that of `metric_for_best_model`) at that t, as a mean over the seeds.
    """

    def run(arguments: RecipeArguments, config: GerneConfig, make_trainer: MakeTrainer, test: Any) -> Rows:
        ended = EndedRuns(arguments, config, test)

        def trained(own: GerneConfig) -> dict[str, Any]:
            trainer = make_trainer(own, GerneTrainer)
            trainer.train()
            return {**_figures(trainer, test), "found": trainer.found_minority()}

        rows: Rows = []
        for threshold in thresholds:
            tried: dict[float, list[dict[str, Any]]] = {}
            for beta in betas:
                for seed in seeds:
                    own: dict[str, Any] = {"threshold": threshold, "beta": beta, "seed": seed, "biased_folds": 1}
                    own |= {"pseudo_rule": "threshold", "beta_out_of_bounds": "warn", **_NO_FILES}
                    name = f"t-{threshold:g}-beta-{beta:g}-seed{seed}"
                    own["output_dir"] = os.path.join(config.folder, name)
                    own["pseudo_attributes_dir"] = os.path.join(config.folder, f"biased-model-seed{seed}")
                    run_config = method_config(config, "pseudo", **own)
                    result = ended.result(run_config, lambda: trained(run_config))  # noqa: B023
                    tried.setdefault(beta, []).append({"threshold": threshold, "beta": beta, "seed": seed, **result})
            metric = config.metric_for_best_model or "worst_group_accuracy"
            name = metric.removeprefix("eval_")
            means = {beta: statistics.fmean(row["validation"][name] for row in runs) for beta, runs in tried.items()}
            best = max(means, key=lambda beta: means[beta])
            rows += [{**row, "chosen": beta == best} for beta, runs in tried.items() for row in runs]
        return rows

    return run


class GradientNoise(TrainerCallback):
    """Add up the gradients of optimizer steps, for the mean and the variance of the gradient of a batch.

    Args:
        weights (`dict[str, torch.Tensor]`): the weights at which the gradients are taken.
    """

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights = weights
        self.steps = 0
        self._sum: torch.Tensor | None = None
        self._squares = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Put the weights in the place of the initial ones."""
        model.load_state_dict(self.weights)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Add the gradient of a step."""
        parts = [weight.grad.detach().flatten() for weight in model.parameters() if weight.grad is not None]
        gradient = torch.cat(parts).double().cpu()
        self.steps += 1
        self._sum = gradient.clone() if self._sum is None else self._sum + gradient
        self._squares += float(gradient @ gradient)

    @property
    def variance(self) -> float:
        """The variance of a batch's gradient, summed over all weights: `E|g - E g|^2`."""
        total = cast(torch.Tensor, self._sum)
        return (self._squares - float(total @ total) / self.steps) / (self.steps - 1)

    @property
    def mean(self) -> torch.Tensor:
        """The mean gradient, of shape `(number of weights,)`."""
        return cast(torch.Tensor, self._sum) / self.steps


def compare_noise(methods: Sequence[str], seeds: Sequence[int], batches: int = 200) -> Experiment:
    """Return App. B of the paper: methods of one expectation, their figures, and the variance of their gradients.

    The variance is taken over `batches` batches at one point, the weights with which class-balanced ERM ends: the
    learning rate is 0 there, and clipping is off.

    Args:
        methods (`Sequence[str]`): names of methods, such as "independent" and the sampling with weights of App. B.
        seeds (`Sequence[int]`): seeds of the runs.
        batches (`int`, *optional*, defaults to `200`): batches for the variance, at least 2.

    Returns:
        `Callable`: an experiment. It returns a dictionary for each run: `method`, `seed`, `variance`, and the
        summaries `validation` and `test` of the ordinary training.

    Raises:
        ValueError: for fewer batches than 2.
    """
    if batches < 2:
        raise ValueError(f"batches must be at least 2, since one gradient has no variance; found {batches}")

    def run(arguments: RecipeArguments, config: GerneConfig, make_trainer: MakeTrainer, test: Any) -> Rows:
        ended, settings = EndedRuns(arguments, config, test), arguments.settings_by_method()

        def config_of(method: str, part: str, seed: int, **more: Any) -> GerneConfig:
            folder = os.path.join(config.folder, f"{part}-{method}-seed{seed}")
            return method_config(config, method, settings, seed=seed, output_dir=folder, **{**_NO_FILES, **more})

        @functools.cache
        def start_of(seed: int) -> dict[str, torch.Tensor]:
            erm = make_trainer(config_of("class_balanced", "start", seed), GerneTrainer)
            erm.train()
            weights = cast(torch.nn.Module, erm.model).state_dict()
            return {name: value.detach().clone() for name, value in weights.items()}

        def trained(method: str, seed: int, own: GerneConfig) -> dict[str, Any]:
            still: dict[str, Any] = {"learning_rate": 0.0, "max_steps": batches, "eval_strategy": "no"}
            still |= {"max_grad_norm": 0.0, "metric_for_best_model": None}
            noise = GradientNoise(start_of(seed))
            standing = make_trainer(config_of(method, "noise", seed, **still), GerneTrainer)
            standing.add_callback(noise)
            standing.train()
            trainer = make_trainer(own, GerneTrainer)
            trainer.train()
            return {"variance": noise.variance, **_figures(trainer, test)}

        rows = []
        for seed in seeds:
            for method in methods:
                own = config_of(method, "run", seed)
                result = ended.result(own, lambda: trained(method, seed, own), batches=batches)  # noqa: B023
                rows.append({"method": method, "seed": seed, **result})
        return rows

    return run


def validation_folds(seeds: Sequence[int], folds: int = 3) -> Experiment:
    """Return App. G of the paper: trained on the validation set alone, selected by cross-validation.

    Each fold has its share of every group. A run trains on the other folds and keeps the checkpoint that is best on
    its own; no figure of the test set is used.

    Args:
        seeds (`Sequence[int]`): seeds of the runs.
        folds (`int`, *optional*, defaults to `3`): number of folds, at least 2.

    Returns:
        `Callable`: an experiment. It returns a dictionary for each run: `fold`, `seed`, `validation` and `test`.

    Raises:
        ValueError: for fewer folds than 2; when it runs, for a group with fewer validation rows than folds.
        TypeError: when it runs, for rows that cannot be selected by their numbers.
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2; found {folds}")

    def run(arguments: RecipeArguments, config: GerneConfig, make_trainer: MakeTrainer, test: Any) -> Rows:
        ended = EndedRuns(arguments, config, test)

        def trained(own: GerneConfig, fold: int) -> dict[str, Any]:
            trainer = make_trainer(own, GerneTrainer)
            data = cast(Any, trainer.eval_dataset)
            if not hasattr(data, "select"):
                raise TypeError(
                    f"the validation set is a {type(data).__name__}, whose rows cannot be selected; the folds "
                    "need a datasets.Dataset, as the recipe celeba has it"
                )
            held = fold_of_rows(cast(GroupIndex, trainer.sets.index(data, "validation set")), folds) == fold
            trainer.train_dataset = data.select(np.flatnonzero(~held))
            trainer.eval_dataset = data.select(np.flatnonzero(held))
            trainer.train()
            return _figures(trainer, test)

        rows = []
        for seed in seeds:
            for fold in range(folds):
                folder = os.path.join(config.folder, f"fold{fold}-seed{seed}")
                own = method_config(config, "independent", seed=seed, output_dir=folder, push_to_hub=False)
                result = ended.result(own, lambda: trained(own, fold), fold=fold, folds=folds)  # noqa: B023
                rows.append({"fold": fold, "seed": seed, **result})
        return rows

    return run


def fold_of_rows(groups: GroupIndex, folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each row; every group is spread evenly over the folds.

    Args:
        groups ([`GroupIndex`]): the groups of the rows.
        folds (`int`): number of folds.
        seed (`int`, *optional*, defaults to `0`): decides which rows go where.

    Returns:
        `np.ndarray` of shape `(N,)`, int64: numbers from 0 to `folds - 1`.

    Raises:
        ValueError: for a group with fewer rows than folds.

    Example:

    ```python
    >>> fold_of_rows(GroupIndex.from_arrays([0, 0, 0, 1, 1, 1], [0] * 6), 3).reshape(2, 3).sum(axis=1).tolist()
    [3, 3]

    ```
    """
    rng = np.random.default_rng(seed)
    found = np.empty(len(groups), dtype=np.int64)
    for code in np.unique(groups.codes):
        rows = np.flatnonzero(groups.codes == code)
        if len(rows) < folds:
            raise ValueError(
                f"the group {groups.group_name(code)} has {len(rows)} rows, fewer than the {folds} folds: in "
                "some fold it would be missing. Use fewer folds"
            )
        found[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return found


def _figures(trainer: GerneTrainer, test: Any) -> dict[str, Any]:
    """Return the summaries of the validation and test sets of a trained model; the test set is read once."""
    trainer.evaluate_if_stale()
    trainer.evaluate(test, metric_key_prefix="test")
    found = {}
    for name, key in (("validation", "eval"), ("test", "test")):
        result = trainer.group_results.get(key, {})
        found[name] = {metric: value for metric, value in result.items() if metric.endswith("accuracy")}
    return found
