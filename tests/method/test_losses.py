"""The loss of a plan and its gradient, in float64: for a fixed batch, and in expectation over the sampler's draws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_pt_utils import LabelSmoother

from gerne_hf import BatchPlan, GroupIndex, GroupSampler
from gerne_hf.method.losses import PlanLoss
from gerne_hf.method.outputs import slice_rows
from gerne_hf.method.plans import PLANS, Segment

C, BETA = 0.5, 0.7
COUNTS = np.array([[30, 4, 2], [3, 20, 5]])
ROWS = 23  # odd, so that segments differ in length


class Problem:
    """A small classifier and a data set whose groups differ in the mean of their features."""

    def __init__(self):
        torch.manual_seed(0)
        pairs = np.array([pair for pair in np.ndindex(*COUNTS.shape) for _ in range(COUNTS[pair])])
        pairs = np.random.default_rng(0).permutation(pairs)
        self.index = GroupIndex.from_arrays(pairs[:, 0], pairs[:, 1])
        self.labels, attributes = torch.tensor(pairs).T
        self.groups = torch.tensor(self.index.codes.astype(np.int64))
        features = torch.randn(len(pairs), 4, dtype=torch.float64)
        self.features = features + F.one_hot(attributes, 4) + 0.5 * self.labels[:, None]
        layers = torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)
        self.model = torch.nn.Sequential(*layers).double()

    def plan(self, name: str, rows: int = ROWS) -> BatchPlan:
        return BatchPlan.build(name, rows, self.index.alpha, C, BETA)

    def batch(self, plan: BatchPlan, seed: int = 0) -> torch.Tensor:
        return torch.tensor(list(GroupSampler(self.index, plan, num_rows=plan.rows, seed=seed)))

    def outputs(self, rows) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.model(self.features[rows]))

    def cross_entropy(self, rows) -> torch.Tensor:
        return F.cross_entropy(self.model(self.features[rows]), self.labels[rows])

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(loss, list(self.model.parameters()))
        return torch.cat([part.ravel() for part in parts])

    def fused(self, plan: BatchPlan, rows: torch.Tensor, **options) -> torch.Tensor:
        plan_loss = PlanLoss(plan, **options)
        return plan_loss.total(plan_loss.losses(self.outputs(rows), self.labels[rows], self.groups[rows]))

    def separate(self, plan: BatchPlan, rows: torch.Tensor, **options) -> torch.Tensor:
        plan_loss = PlanLoss(plan, **options)
        total = torch.zeros((), dtype=torch.float64)
        for i, part in enumerate(plan.slices()):
            own = rows[part]
            mean = plan_loss.one_segment(i, self.outputs(own), self.labels[own], self.groups[own])
            total = total + plan.segments[i].coefficient * mean
        return total


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


def mean_cross_entropy(outputs, labels, num_items_in_batch):
    assert num_items_in_batch == len(labels) == len(outputs["logits"])
    return F.cross_entropy(outputs["logits"], labels)


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# ---- a fixed batch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 7, ROWS, 40])
def test_gradient_is_the_beta_combination_of_the_two_batches(problem, rows):
    plan = problem.plan("independent", rows)
    drawn = problem.batch(plan)
    biased, less_biased = drawn[: rows // 2], drawn[rows // 2 :]
    of_biased = problem.gradient(problem.cross_entropy(biased))
    of_less_biased = problem.gradient(problem.cross_entropy(less_biased))
    expected = of_less_biased + BETA * (of_less_biased - of_biased)  # Eq. 7
    for found in (problem.fused(plan, drawn), problem.separate(plan, drawn)):
        assert_close(problem.gradient(found), expected)
    assert not torch.allclose(expected, problem.gradient(problem.cross_entropy(drawn)), atol=1e-3)


def test_loss_of_shared_rows(problem):
    plan = problem.plan("shared")
    drawn = problem.batch(plan)
    alpha = problem.index.alpha
    mass = np.minimum(alpha, alpha + C * (1 / 3 - alpha)).sum() / 2
    shared, biased_only, less_biased_only = (problem.cross_entropy(drawn[part]) for part in plan.slices())
    expected = mass * shared + (1 - mass) * ((1 + BETA) * less_biased_only - BETA * biased_only)
    assert_close(problem.fused(plan, drawn), expected)
    assert_close(problem.gradient(problem.fused(plan, drawn)), problem.gradient(expected))


@pytest.mark.parametrize("name", ["collapsed", "erm", "resampling"])
def test_plans_of_one_segment_take_the_mean(problem, name):
    drawn = problem.batch(problem.plan(name))
    found, expected = problem.fused(problem.plan(name), drawn), problem.cross_entropy(drawn)
    assert_close(found, expected)
    assert_close(problem.gradient(found), problem.gradient(expected))


def test_reweighting_weights_each_row_by_its_group(problem):
    plan = problem.plan("reweighting")
    drawn = problem.batch(plan)
    alpha = problem.index.alpha
    weights = torch.tensor(((alpha + C * (1 + BETA) * (1 / 3 - alpha)) / alpha).ravel())
    expected = sum(weights[problem.groups[row]] * problem.cross_entropy(row[None]) for row in drawn) / len(drawn)
    assert_close(problem.fused(plan, drawn), expected)
    assert_close(problem.gradient(problem.fused(plan, drawn)), problem.gradient(expected))
    assert abs(problem.cross_entropy(drawn) - expected) > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", PLANS)
def test_fused_equals_separate(problem, name, smoothing):
    plan = problem.plan(name)
    drawn = problem.batch(plan)
    fused, separate = (f(plan, drawn, label_smoothing=smoothing) for f in (problem.fused, problem.separate))
    assert_close(fused, separate)
    assert_close(problem.gradient(fused), problem.gradient(separate))


@pytest.mark.parametrize("smoothing", [0.05, 0.3])
@pytest.mark.parametrize("name", ["independent", "shared", "collapsed", "erm", "resampling"])
def test_label_smoothing_is_that_of_transformers(problem, name, smoothing):
    plan = problem.plan(name)
    drawn = problem.batch(plan)
    smoother = LabelSmoother(epsilon=smoothing)
    plan_loss = PlanLoss(plan, label_smoothing=smoothing)
    found = plan_loss.segment_means(plan_loss.losses(problem.outputs(drawn), problem.labels[drawn]))
    for i, part in enumerate(plan.slices()):
        own = drawn[part]
        of_transformers = smoother(problem.outputs(own), problem.labels[own, None])
        everywhere = -problem.outputs(own).logits.log_softmax(dim=-1).mean()
        expected = (1 - smoothing) * problem.cross_entropy(own) + smoothing * everywhere
        assert_close(found[i], of_transformers, 1e-6)  # transformers adds the smoothing up in float32
        assert_close(found[i], expected)
        alone = plan_loss.one_segment(i, problem.outputs(own), problem.labels[own])
        assert_close(alone, expected)
        assert_close(problem.gradient(alone), problem.gradient(expected))
        assert abs(expected - problem.cross_entropy(own)) > 1e-6


@pytest.mark.parametrize("name", PLANS)
def test_a_loss_function_of_ones_own_takes_the_same_path(problem, name):
    plan = problem.plan(name)
    drawn = problem.batch(plan)
    expected = problem.gradient(problem.fused(plan, drawn))
    for f in (problem.fused, problem.separate):
        found = f(plan, drawn, loss_func=mean_cross_entropy)
        assert_close(found, problem.fused(plan, drawn))
        assert_close(problem.gradient(found), expected)


@pytest.mark.parametrize("loss_func", [None, mean_cross_entropy])
def test_a_plan_of_two_weighted_segments(problem, loss_func):
    weights = np.arange(6.0).reshape(2, 3), np.array([[2.0, 0.5, 3.0], [0.0, 1.0, 4.0]])
    uniform = np.full((2, 3), 1 / 6)
    plan = BatchPlan("both", (Segment("a", 9, uniform, -0.5, weights[0]), Segment("b", 14, uniform, 1.5, weights[1])))
    drawn = problem.batch(plan)
    per_row = F.cross_entropy(problem.outputs(drawn).logits, problem.labels[drawn], reduction="none")
    first, second = (torch.tensor(w.ravel())[problem.groups[drawn]] * per_row for w in weights)
    expected = -0.5 * first[:9].mean() + 1.5 * second[9:].mean()
    assert_close(problem.fused(plan, drawn, loss_func=loss_func), expected)
    assert_close(problem.separate(plan, drawn, loss_func=loss_func), expected)


def test_another_loss_function_is_used(problem):
    plan = problem.plan("independent")
    drawn = problem.batch(plan)

    def squared(outputs, labels, num_items_in_batch):
        return (outputs["logits"][:, 0] - labels).square().mean()

    biased, less_biased = (squared(problem.outputs(drawn[p]), problem.labels[drawn[p]], None) for p in plan.slices())
    assert_close(problem.fused(plan, drawn, loss_func=squared), (1 + BETA) * less_biased - BETA * biased)


@pytest.mark.parametrize("convert", [lambda out: (out.logits,), lambda out: {"logits": out.logits}, lambda out: out])
@pytest.mark.parametrize("name", PLANS)
def test_outputs_of_any_kind(problem, name, convert):
    plan = problem.plan(name)
    drawn = problem.batch(plan)
    found = PlanLoss(plan).losses(convert(problem.outputs(drawn)), problem.labels[drawn], problem.groups[drawn])
    expected = PlanLoss(plan).losses(problem.outputs(drawn), problem.labels[drawn], problem.groups[drawn])
    assert found.shape == (plan.rows,)
    assert_close(found, expected, 0.0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_logits_get_a_float_loss(problem, half):
    plan = problem.plan("independent")
    drawn = problem.batch(plan)
    logits = problem.outputs(drawn).logits.detach().to(half)
    found = PlanLoss(plan).losses((logits,), problem.labels[drawn])
    expected = PlanLoss(plan).losses((logits.double(),), problem.labels[drawn])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_weights_of_rows_leave_the_type_of_the_loss(problem):
    plan = problem.plan("reweighting")
    drawn = problem.batch(plan)
    logits = problem.outputs(drawn).logits.detach().float()
    assert PlanLoss(plan).losses((logits,), problem.labels[drawn], problem.groups[drawn]).dtype == torch.float32


@pytest.mark.parametrize("loss_func", [None, mean_cross_entropy])
@pytest.mark.parametrize("name", PLANS)
def test_a_shift_of_beta_is_the_loss_of_the_plan_with_that_beta(problem, name, loss_func):
    drawn = problem.batch(problem.plan(name))
    plan_loss = PlanLoss(problem.plan(name), loss_func=loss_func)
    losses = plan_loss.losses(problem.outputs(drawn), problem.labels[drawn], problem.groups[drawn])
    if name not in ("independent", "shared"):
        assert_close(plan_loss.total(losses, 0.0), plan_loss.total(losses))
        with pytest.raises(ValueError, match=f"beta cannot change over training with the plan '{name}'"):
            plan_loss.total(losses, 0.3)
        return
    for shift in (0.3, -1.2, 0.0):
        shifted = PlanLoss(BatchPlan.build(name, ROWS, problem.index.alpha, C, BETA + shift))
        assert_close(plan_loss.total(losses, shift), shifted.total(losses))
        assert_close(plan_loss.total(plan_loss.segment_means(losses), shift), shifted.total(losses))


@pytest.mark.parametrize("name", PLANS)
def test_a_batch_of_another_size_is_refused(problem, name):
    drawn = problem.batch(problem.plan(name, ROWS + 1))
    with pytest.raises(ValueError, match=rf"has 24 rows, and the plan '{name}' lays out 23.*get_train_dataloader"):
        problem.fused(problem.plan(name), drawn)


def test_slices_of_nested_outputs():
    outputs = SequenceClassifierOutput(
        loss=torch.tensor(1.0), logits=torch.arange(10).reshape(5, 2), hidden_states=(torch.ones(5, 3), torch.ones(4))
    )
    found = slice_rows(outputs, slice(1, 3), 5)
    assert type(found) is SequenceClassifierOutput
    assert found.logits.tolist() == [[2, 3], [4, 5]] and found.loss.item() == 1.0 and found.attentions is None
    assert [len(state) for state in found.hidden_states] == [2, 4]


# ---- in expectation -------------------------------------------------------------------------------------------------


def weighted_group_gradients(problem: Problem, weights: np.ndarray) -> torch.Tensor:
    """Eq. 10: the sum over groups of weight times the gradient of the group's mean loss."""
    groups = [problem.index.rows(*pair).astype(np.int64) for pair in np.ndindex(*COUNTS.shape)]
    gradients = [problem.gradient(problem.cross_entropy(torch.tensor(rows))) for rows in groups]
    return torch.einsum("g,gp->p", torch.tensor(weights.ravel()), torch.stack(gradients))


@pytest.mark.parametrize("name", PLANS)
def test_expected_gradient_is_eq_10(problem, name):
    alpha = problem.index.alpha
    p_ext = alpha + C * (1 + BETA) * (1 / 3 - alpha)
    even = np.full_like(alpha, 1 / 3)
    conditional = {"erm": alpha, "resampling": even, "group_weighted_loss": even}.get(name, p_ext)
    plan = problem.plan(name)
    batches = np.concatenate(list(GroupSampler(problem.index, plan, num_rows=800 * plan.rows, seed=1).blocks()))
    gradients = torch.stack(
        [problem.gradient(problem.fused(plan, torch.tensor(rows.astype(np.int64)))) for rows in batches]
    )
    mean, error = gradients.mean(dim=0), gradients.std(dim=0) / len(gradients) ** 0.5

    def distance(weights):
        """Largest distance from the expectation, in standard errors."""
        return ((mean - weighted_group_gradients(problem, weights)).abs() / error).max().item()

    assert distance(conditional / 2) < 4
    # The test can tell this plan's expectation from those of its neighbours.
    wrong = [alpha, even] if conditional is p_ext else [p_ext]
    assert min(distance(other / 2) for other in wrong) > 4
