"""AFR against a plain re-statement of the authors' notebook, and which rows it trains on, fits on and reads."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import config, mlp, table, trainer, watch_batches, weights
from workshop import Workshop

from gerne_hf.baselines import AFRTrainer, BaselineConfig
from gerne_hf.baselines.afr import afr_weights, fit_reweighted, reweight_last_layer
from gerne_hf.baselines.features import collect_features, layer_of

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[70, 12], [15, 53]]
SETTINGS = dict(gamma=3.0, penalty=0.2, learning_rate=0.5, steps=40)


def afr(output_dir, train=None, eval_dataset=None, **settings):
    own = {name: settings.pop(name) for name in list(settings) if name.startswith("afr_")}
    plain = config(output_dir, **{"plan": "erm", "class_balanced": False, **settings})
    given = {name: getattr(plain, name) for name, field in type(plain).__dataclass_fields__.items() if field.init}
    data = table(COUNTS) if train is None else train
    args = BaselineConfig(**given, **own)
    return AFRTrainer(model=mlp(), args=args, train_dataset=data, eval_dataset=eval_dataset)


# ---- the fit ------------------------------------------------------------------------------------------------------


def notebook(x, y, w0, b0, judge, gamma, penalty, learning_rate, steps):
    """The notebook's training: a linear model is added to ERM's, and is what is penalized."""
    p = (x @ w0.T + b0).softmax(-1)
    mu = (-gamma * (p * F.one_hot(y, 2)).sum(-1)).exp()
    mu[y == 1] *= (y == 0).sum().item() / (y == 1).sum().item()  # class balancing
    mu = mu / mu.sum()
    linear = torch.nn.Linear(x.shape[1], 2).double()
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr=learning_rate)
    scores, layers = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (mu * F.cross_entropy(x @ w0.T + b0 + linear(x), y, reduction="none")).sum()
        loss = loss + penalty * (linear.weight.pow(2).sum() + linear.bias.pow(2).sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
        optimizer.step()
        layers.append(((w0 + linear.weight).detach().numpy(), (b0 + linear.bias).detach().numpy()))
        scores.append(judge(layers[-1]))
    return layers[int(np.argmax(scores))], int(np.argmax(scores)) + 1


def test_the_layer_is_that_of_the_authors_notebook():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [60, 25])
    x = rng.normal(size=(85, 5)) * 3 + y[:, None] * [3, 0, 0, 0, 1]
    layer = rng.normal(size=(2, 5)), rng.normal(size=2)
    wanted = rng.normal(size=(2, 5))
    judge = lambda found: -np.abs(found[0] - wanted).sum()  # noqa: E731  (some steps in the middle are best)
    expected, at = notebook(*map(torch.from_numpy, (x, y, *layer)), judge, **SETTINGS)
    found, step = fit_reweighted(x, y, layer, judge, **SETTINGS)
    assert step == at and 1 < step < 40
    assert max(np.abs(one - other).max() for one, other in zip(found, expected, strict=True)) < 1e-10
    assert fit_reweighted(x, y, layer, None, **SETTINGS)[1] == 40  # without validation the last


def test_rows_that_erm_is_sure_of_count_less_and_classes_alike():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), torch.tensor([0, 0, 1])
    sure, unsure = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    raw = np.array([np.exp(-5 * sure) / 2, np.exp(-5 * unsure) / 2, np.exp(-5 * sure)])
    assert afr_weights(logits, labels, gamma=5.0).tolist() == pytest.approx((raw / raw.sum()).tolist(), rel=1e-5)


# ---- rows ---------------------------------------------------------------------------------------------------------


def test_held_out_rows_are_not_trained_on_and_the_layer_is_fitted_on_them(tmp_path):
    subject = afr(tmp_path, eval_dataset=table([[9, 8], [7, 9]], seed=4), max_steps=-1, num_train_epochs=1)
    batches = watch_batches(subject)
    subject.train()
    trained = sorted(row for batch in batches for row in batch["row"].tolist())
    assert len(trained) == len(set(trained)) == 120  # 80 % of 150, once each
    held_out = sorted(set(range(150)) - set(trained))
    before, erm = weights(subject.model), layer_of(subject.model.second)
    features = collect_features(subject, subject.train_dataset.select(held_out))
    step = reweight_last_layer(subject)
    after = weights(subject.model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"second.weight", "second.bias"}
    labels = np.array(subject.train_dataset["label"][:])[held_out]
    settings = dict(gamma=4.0, penalty=0.1, learning_rate=0.01, steps=step)
    expected, _ = fit_reweighted(features, labels, erm, None, **settings)
    assert np.abs(after["second.weight"].numpy() - expected[0]).max() < 1e-6


def test_the_step_with_the_best_worst_group_is_kept(tmp_path):
    held_out = table([[30, 30], [30, 30]], seed=4)
    subject = afr(tmp_path, eval_dataset=held_out, afr_learning_rate=1.5, afr_steps=8, max_steps=20)
    subject.train()
    erm, every = layer_of(subject.model.second), []
    step = reweight_last_layer(subject)
    best = subject.evaluate()["eval_worst_group_accuracy"]
    for steps in range(1, 9):
        other = afr(tmp_path, afr_learning_rate=1.5, afr_steps=steps, max_steps=20)
        other.model.load_state_dict(subject.model.state_dict())
        with torch.no_grad():
            for value, start in zip((other.model.second.weight, other.model.second.bias), erm, strict=True):
                value.copy_(torch.as_tensor(start))
        reweight_last_layer(other)
        every.append(other.evaluate(held_out)["eval_worst_group_accuracy"])
    assert best == pytest.approx(max(every)) and step == int(np.argmax(every)) + 1


def test_no_attributes_are_needed(tmp_path):
    plain = [table(COUNTS).remove_columns("place"), table([[9, 8], [7, 9]], seed=4).remove_columns("place")]
    subject = afr(tmp_path, plain[0], plain[1], attribute_column=None, afr_steps=5)
    subject.train()
    assert 1 <= reweight_last_layer(subject) <= 5
    lacking = afr(tmp_path, plain[0], table([[9, 8], [7, 9]], seed=4), afr_steps=5)  # known in validation alone
    lacking.train()
    reweight_last_layer(lacking)
    assert "eval_worst_group_accuracy" in lacking.evaluate()


def test_it_is_compared(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["erm", "afr"], settings={"afr": {"afr_steps": 3}})
    assert list(results) == ["ERM", "AFR"] and isinstance(shop.trainers[-1], AFRTrainer)


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="AFR lays out its batches by itself; use plan='erm'"):
        afr(tmp_path, plan="resampling")
    with pytest.raises(
        ValueError, match="the class 'class1' has 1 rows, which leave none to train on or none to hold"
    ):
        afr(tmp_path, table([[30, 5], [0, 1]]))
    with pytest.raises(TypeError, match="AFR needs rows that its AFRTrainer has held out; found a GerneTrainer"):
        reweight_last_layer(trainer(tmp_path, plan="erm"))
    no_bias = mlp()
    no_bias.second.bias = None
    with pytest.raises(ValueError, match="no bias, which AFR fits"):
        AFRTrainer(model=no_bias, args=config(tmp_path, plan="erm"), train_dataset=table(COUNTS))


@pytest.mark.parametrize(
    "settings",
    [{"afr_held_out": 1.0}, {"afr_gamma": -1.0}, {"afr_penalty": float("inf")}, {"afr_steps": 0}]
    + [{"afr_learning_rate": 0.0}],
)
def test_settings_out_of_range(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        afr(tmp_path, **settings)
