"""SELF against a plain re-statement of the original: disagreement, the rows that are chosen, the training on them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dfr_subject import by_hand, subject_for
from helpers import config, mlp, table, trainer, weights
from torch import nn
from workshop import Workshop

from gerne_hf.baselines import BaselineConfig
from gerne_hf.baselines.features import layer_of
from gerne_hf.baselines.self_disagreement import (
    disagreement,
    fit_where_they_disagree,
    train_where_dropout_disagrees,
)

pytestmark = pytest.mark.usefixtures("without_pictures")
SETTINGS = dict(rows=30, dropout=0.6, learning_rate=0.05, steps=25, seed=3)


def test_disagreement_is_the_originals_divergence():
    """`F.kl_div(log(probs), dropout_probs)`: the original's mean over the classes orders rows as the sum does."""
    rng = torch.Generator().manual_seed(0)
    dropped, logits = (torch.randn(40, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    expected = F.kl_div(torch.log(logits.softmax(1)), dropped.softmax(1), reduction="none").mean(dim=1)
    assert torch.allclose(disagreement(dropped, logits) / 3, expected, atol=1e-12)


def test_the_layer_is_that_of_the_original():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [90, 30, 12])
    x = rng.normal(size=(132, 6)) + y[:, None] * [1, 0, 0, 0, 0, 0]
    layer = rng.normal(size=(3, 6)), rng.normal(size=3)
    (weight, bias), chosen = fit_where_they_disagree(x, y, layer, **SETTINGS)

    inputs, labels, stream = torch.from_numpy(x), torch.from_numpy(y), torch.Generator().manual_seed(3)
    head = nn.Linear(6, 3).double()
    head.load_state_dict({"weight": torch.from_numpy(layer[0]), "bias": torch.from_numpy(layer[1])})
    with torch.no_grad():
        mask = (torch.rand(inputs.shape, generator=stream, dtype=torch.float64) >= 0.6) / 0.4
        gap = F.kl_div(head(inputs).log_softmax(1), head(inputs * mask).softmax(1), reduction="none").mean(1)
    rows = torch.topk(gap, k=30)[1]
    assert chosen.tolist() == rows.tolist() and len(set(chosen.tolist())) == 30
    inputs, labels = inputs[rows], labels[rows]
    balanced = 1.0 / torch.bincount(labels)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(25):
        batch = torch.multinomial(balanced[labels].double(), 30, replacement=True, generator=stream)
        optimizer.zero_grad()
        F.cross_entropy(head(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    assert np.abs(weight - head.weight.detach().numpy()).max() < 1e-6
    assert np.abs(bias - head.bias.detach().numpy()).max() < 1e-6
    assert np.abs(weight - layer[0]).max() > 0.05


def test_only_the_last_layer_changes_by_rows_of_one_half(tmp_path):
    subject = subject_for(tmp_path)
    features = by_hand("mlp", subject.model, subject.eval_dataset).numpy()
    before, erm = weights(subject.model), layer_of(subject.model.second)
    rows = train_where_dropout_disagrees(subject, seed=5)
    after = weights(subject.model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"second.weight", "second.bias"}
    half = np.random.default_rng(5).permutation(41)[:20]
    assert len(rows) == 20 and set(rows.tolist()) == set(half.tolist())  # 100 are asked for
    labels = np.array(subject.eval_dataset["label"][:])[half]
    defaults = dict(rows=100, dropout=0.5, learning_rate=0.01, steps=250, seed=5)
    (weight, _), _ = fit_where_they_disagree(features[half], labels, erm, **defaults)
    assert np.abs(after["second.weight"].numpy() - weight).max() < 1e-5


def test_attributes_are_not_used(tmp_path):
    layers = []
    for columns in (["place"], None):
        data = [table([[20, 10], [10, 20]]), table([[13, 9], [8, 11]], seed=4)]
        if columns is None:
            data = [one.remove_columns("place") for one in data]
        subject = trainer(tmp_path, mlp(), data[0], eval_dataset=data[1], plan="erm", attribute_column=columns)
        train_where_dropout_disagrees(subject)
        layers.append(subject.model.second.weight.detach())
    assert torch.equal(*layers)


def test_it_is_compared_and_takes_over_the_erm_run(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["erm", "self", "dfr"], settings={"self": {"self_steps": 40}})
    assert list(results) == ["ERM", "SELF (dropout)", "DFR"] and shop.begun == ["begin erm"]


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="SELF needs one held-out data set"):
        train_where_dropout_disagrees(trainer(tmp_path, plan="erm"))
    plain = config(tmp_path, plan="erm")
    given = {name: getattr(plain, name) for name, field in type(plain).__dataclass_fields__.items() if field.init}
    for name, value in (("self_rows", 0), ("self_dropout", 1.0), ("self_learning_rate", -1.0), ("self_steps", 0)):
        with pytest.raises(ValueError, match=name):
            BaselineConfig(**given, **{name: value})
