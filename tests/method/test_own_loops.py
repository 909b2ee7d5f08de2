"""`plan_loss`: the loss of GerneTrainer for any loss function, and what cannot be one."""

import collections

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captured_logs import logged
from helpers import first_batch, table, trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding

from gerne_hf import BatchPlan, GroupIndex, plan_loss
from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.method.plans import PLANS, Segment

ALPHA = np.array([[0.9, 0.1], [0.2, 0.8]])
TRAINED = (
    *({"plan": name} for name in PLANS),
    {"plan": "independent", "biased_share": 0.3, "beta": 0.7},
    {"plan": "shared", "class_balanced": False},
    {"plan": "erm", "class_balanced": False},  # an epoch of every row
)


def build(name: str, rows: int = 8) -> BatchPlan:
    return BatchPlan.build(name, rows, ALPHA, c=0.5, beta=0.7)


def losses_of(model):
    def losses(batch):
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        return F.cross_entropy(logits, batch["labels"], reduction="none")

    return losses


def mean_of(model):
    return lambda batch: losses_of(model)(batch).mean()


def gradient(model, loss):
    return torch.cat([part.ravel() for part in torch.autograd.grad(loss, list(model.parameters()))])


# ---- the same as GerneTrainer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", TRAINED, ids=lambda options: "-".join(map(str, options.values())))
def test_loss_and_gradient_are_those_of_the_trainer(tmp_path, options):
    subject = trainer(tmp_path, train=table(), **options)
    batch = first_batch(subject)
    subject.current_gradient_accumulation_steps = 1
    subject.model.zero_grad()
    expected = subject.training_step(subject.model, {key: value.clone() for key, value in batch.items()})
    of_trainer = torch.cat([parameter.grad.ravel() for parameter in subject.model.parameters()])

    found = plan_loss(subject.plan, losses_of(subject.model), batch)  # its group ids are in the batch
    assert abs(found.item() - expected.item()) < 1e-6
    torch.testing.assert_close(gradient(subject.model, found), of_trainer, rtol=0, atol=1e-6)
    if options["plan"] not in ("reweighting", "sampling_weighting", "group_weighted_loss"):
        found = plan_loss(subject.plan, mean_of(subject.model), batch, reduction="mean")
        assert abs(found.item() - expected.item()) < 1e-6
        torch.testing.assert_close(gradient(subject.model, found), of_trainer, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_plan_is_the_sum_of_coefficients_times_means(data):
    kinds = st.tuples(st.integers(1, 5), st.floats(-3, 3), st.booleans())
    drawn = data.draw(st.lists(kinds, min_size=1, max_size=4))
    share = np.full((2, 3), 1 / 6)
    weights = np.arange(6.0).reshape(2, 3)
    segments = [Segment(f"{i}", n, share, factor, weights if w else None) for i, (n, factor, w) in enumerate(drawn)]
    plan = BatchPlan("any", tuple(segments))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    losses, groups = rng.normal(size=plan.rows), rng.integers(0, 6, size=plan.rows)
    parts = [
        segment.coefficient * np.mean(losses[rows] * (1 if segment.group_weights is None else groups[rows]))
        for segment, rows in zip(segments, plan.slices(), strict=True)
    ]
    found = plan_loss(plan, lambda batch: batch, torch.tensor(losses), groups=groups.tolist())
    assert found.item() == pytest.approx(sum(parts), abs=1e-9)
    if not any(weighted for _, _, weighted in drawn):
        found = plan_loss(plan, lambda batch: batch.mean(), torch.tensor(losses), reduction="mean")
        assert found.item() == pytest.approx(sum(parts), abs=1e-9)


def test_how_often_it_is_called_and_with_what():
    plan, batch = build("independent", 6), {"x": torch.arange(6.0), "scale": 2.0}
    seen = []

    def losses(part):
        seen.append(part["x"].tolist())
        return part["scale"] * part["x"]

    expected, halves = pytest.approx(-0.7 * 2 + 1.7 * 8), [[0, 1, 2], [3, 4, 5]]
    with logged("gerne_hf.method.own_loops") as warned:
        assert plan_loss(plan, losses, batch, reduction="none").item() == expected
        assert seen == [[0, 1, 2, 3, 4, 5]]
        seen.clear()
        assert plan_loss(plan, lambda part: losses(part).mean(), batch, reduction="mean").item() == expected
        assert seen == halves and not warned
        seen.clear()
        assert plan_loss(plan, lambda part: losses(part).mean(), batch).item() == expected
        assert seen == [[0, 1, 2, 3, 4, 5], *halves]
        plan_loss(plan, lambda part: losses(part).mean(), batch)
    assert len(warned) == 1 and "called again for each segment. Pass reduction='mean'" in warned[0]


# ---- batches --------------------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "x y")
X, Y = torch.arange(5.0), torch.arange(5.0) ** 2
BATCHES = {
    "tensor": (X, lambda b: b),
    "dictionary": ({"x": X, "y": Y, "kind": "a", "heads": torch.zeros(3)}, lambda b: b["x"]),
    "encoding": (BatchEncoding({"x": X, "y": Y}), lambda b: b["x"]),
    "nested": ({"inputs": {"x": X}, "y": [Y]}, lambda b: b["inputs"]["x"] + 0 * b["y"][0]),
    "list of columns": ([X, Y], lambda b: b[0] + 0 * b[1]),
    "tuple of columns": ((X, Y), lambda b: b[0] + 0 * b[1]),
    "named tuple": (Pair(X, Y), lambda b: b.x + 0 * b.y),
    "columns of texts": (([*"abcde"], (*"01234",), Y), lambda b: torch.tensor([float(x) for x in b[1]]) + 0 * b[2]),
    "arrays": ({"x": X.numpy(), "y": Y.numpy()}, lambda b: torch.from_numpy(b["x"] + 0 * b["y"])),
    "rows": ([{"x": float(x), "ids": [1] * int(x)} for x in X], lambda b: torch.tensor([row["x"] for row in b])),
    "numbers": (X.tolist(), torch.tensor),
    "ids": ({"ids": [[1] * (7 + int(x)) for x in X], "x": X}, lambda b: b["x"] + 0 * len(b["ids"])),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_of_any_kind_is_cut(kind):
    batch, losses = BATCHES[kind]
    plan = build("independent", 5)  # 2 biased rows and 3 less biased ones
    expected = -0.7 * 0.5 + 1.7 * 3
    assert plan_loss(plan, losses, batch).item() == pytest.approx(expected)
    assert plan_loss(plan, lambda b: losses(b).mean(), batch, reduction="mean").item() == pytest.approx(expected)


def test_group_ids_are_taken_out_of_the_batch_or_given():
    plan = build("reweighting", 4)
    groups = torch.tensor([0, 1, 2, 3])
    expected = (plan.segments[0].group_weights.ravel() * np.arange(4.0)).mean()
    batch = {"x": torch.arange(4.0)}
    assert plan_loss(plan, lambda b: b["x"], batch, groups=groups).item() == pytest.approx(expected)
    batch = {**batch, GROUP_KEY: groups.to(torch.int32)}
    found = plan_loss(plan, lambda b: b["x"] if set(b) == {"x"} else None, batch)
    assert found.item() == pytest.approx(expected) and set(batch) == {"x", GROUP_KEY}
    swapped = plan_loss(plan, lambda b: b["x"], batch, groups=groups.flip(0).numpy())
    assert swapped.item() != pytest.approx(expected)


def test_half_precision_is_summed_in_single():
    plan = build("independent", 6)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.bfloat16, requires_grad=True)
    loss = plan_loss(plan, lambda b: b, losses)
    loss.backward()
    assert loss.dtype is torch.float32 and losses.grad.dtype is torch.bfloat16


def test_the_last_batch_of_every_row_is_shorter():
    plan = BatchPlan("erm", build("erm", 4).segments, every_row=True)
    assert plan_loss(plan, lambda b: b, torch.tensor([1.0, 3.0])).item() == 2.0
    assert plan_loss(plan, torch.mean, torch.tensor([1.0, 3.0]), reduction="mean").item() == 2.0
    with pytest.raises(ValueError, match="5 rows"):
        plan_loss(plan, lambda b: b, torch.zeros(5))


# ---- what is refused ------------------------------------------------------------------------------------------------

FOUR, IDS = torch.arange(4.0), [0, 1, 2, 3]
REFUSED = {
    "too few rows": ("independent", lambda b: b[:3], {}, "the losses of 3 rows, and .* 'independent' lays out 4"),
    "of a mean": ("independent", torch.mean, {"batch": FOUR[:3], "reduction": "mean"}, "has 3 rows.*lays out 4"),
    "of one mean": ("collapsed", torch.mean, {"batch": FOUR[:3]}, "the batch has 3 rows.*batch_sampler"),
    "two dimensions": ("collapsed", lambda b: b[:, None], {}, r"shape \(4, 1\).*squeeze"),
    "a mean, weights": ("reweighting", torch.mean, {"groups": IDS}, "weights each row by its group, and a mean"),
    "means, weights": ("reweighting", torch.mean, {"groups": IDS, "reduction": "mean"}, r"reduction='none'"),
    "a mean, not rows": ("erm", torch.mean, {"reduction": "none"}, "a single number.*reduction='mean'"),
    "rows, not a mean": ("independent", lambda b: b, {"reduction": "mean"}, "for the 2 rows of .* 'biased'"),
    "reduction": ("independent", torch.sum, {"reduction": "sum"}, "'none' or 'mean'.*found 'sum'"),
    "no ids": ("sampling_weighting", lambda b: b, {}, "group ids of the batch are missing.*GroupIndex.codes"),
    "few ids": ("reweighting", lambda b: b, {"groups": [0, 1]}, "2 group ids for 4 rows"),
    "unknown ids": ("reweighting", lambda b: b, {"groups": [0, 1, 2, 4]}, "are 0 to 3; found 0 to 4"),
    "negative ids": ("reweighting", lambda b: b, {"groups": [-1, 1, 2, 3]}, "are 0 to 3; found -1 to 3"),
    "no whole ids": ("reweighting", lambda b: b, {"groups": [0.0, 1.0, np.nan, 1.0]}, "whole numbers.*float32"),
    "ids of rows": ("reweighting", lambda b: b, {"groups": [[0], [1], [2], [3]]}, r"one a row; found shape \(4, 1\)"),
    "nothing to cut": ("independent", lambda b: FOUR.mean(), {"batch": 7, "reduction": "mean"}, "int cannot be cut"),
    "rows or columns": ("shared", lambda b: b[0], {"batch": [FOUR] * 4, "reduction": "mean"}, "4 rows or 4 columns"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case):
    name, losses, given, message = REFUSED[case]
    arguments = {"batch": FOUR, **given}
    with pytest.raises(ValueError, match=message):
        plan_loss(build(name, 4), losses, **arguments)


@pytest.mark.parametrize(
    ("returned", "found"),
    [((FOUR, 1), "a tuple"), (None, "a NoneType"), (1.5, "a float"), (torch.arange(4), "a tensor of torch.int64")],
)
def test_losses_are_tensors_of_numbers(returned, found):
    with pytest.raises(TypeError, match=f"found {found}. Return the loss alone"):
        plan_loss(build("collapsed", 4), lambda b: returned, FOUR)


def test_group_ids_are_asked_for_before_the_forward():
    def forward(batch):
        raise AssertionError("the model ran")

    with pytest.raises(ValueError, match="group ids of the batch are missing"):
        plan_loss(build("reweighting", 4), forward, FOUR)


def test_the_codes_of_an_index_are_group_ids():
    index = GroupIndex.from_arrays([0, 0, 1, 1], [0, 1, 0, 1])
    plan = BatchPlan.build("reweighting", 4, index.alpha)
    assert plan_loss(plan, lambda b: b, FOUR, groups=index.codes).item() == pytest.approx(FOUR.mean().item())
