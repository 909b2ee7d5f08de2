"""What the logs say of the losses: means between two logs, the running mean of L_ext, and nothing kept of a graph."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gerne_hf import BatchPlan
from gerne_hf.method.losses import LossMeter, PlanLoss

BETA = 0.7
ALPHA = np.array([[0.9, 0.1], [0.2, 0.8]])
PLAN = BatchPlan.build("independent", 8, ALPHA, 0.5, BETA)

one_process = SimpleNamespace(reduce=lambda values, reduction: values)


def test_meter_averages_the_named_losses():
    meter = LossMeter(PlanLoss(PLAN))
    assert meter.drain(one_process) == {}
    meter.add(torch.tensor([1.0, 2.0]), torch.tensor((1 + BETA) * 2 - BETA * 1))
    meter.add(torch.tensor([3.0, 6.0]), torch.tensor((1 + BETA) * 6 - BETA * 3))
    logs = meter.drain(one_process)
    extrapolated = np.mean([(1 + BETA) * 2 - BETA * 1, (1 + BETA) * 6 - BETA * 3])
    assert logs == pytest.approx({"loss_biased": 2, "loss_less_biased": 4, "loss_extrapolated": extrapolated})
    meter.add(torch.tensor([5.0, 7.0]), torch.tensor(1.0))
    logs = meter.drain(one_process)
    assert logs == pytest.approx({"loss_biased": 5, "loss_less_biased": 7, "loss_extrapolated": 1})
    assert meter.drain(one_process) == {}


@pytest.mark.parametrize(("biased", "warns"), [(9.0, True), (1.0, False)])
def test_meter_warns_of_a_negative_running_mean(biased, warns, caplog):
    meter = LossMeter(PlanLoss(PLAN))
    meter.add(torch.tensor([biased, 1.0]), torch.tensor((1 + BETA) - BETA * biased))
    with caplog.at_level(logging.WARNING, logger="gerne_hf.method.losses"):
        meter.drain(one_process)
    assert ("running mean of L_ext is negative" in caplog.text) == warns


def test_meter_is_silent_for_plans_of_one_segment():
    meter = LossMeter(PlanLoss(BatchPlan.build("erm", 8, ALPHA)))
    meter.add(torch.tensor([1.0]), torch.tensor(1.0))
    assert meter.drain(one_process) == {}


def test_the_running_mean_weights_late_steps_more_and_is_that_of_the_steps_so_far(caplog):
    meter = LossMeter(PlanLoss(PLAN))
    totals = [-1.0, -4.0, 2.0]
    with caplog.at_level(logging.WARNING, logger="gerne_hf.method.losses"):
        for total in totals:  # the mean goes on from one log to the next
            logging.Logger.warning_once.cache_clear()
            meter.add(torch.tensor([1.0, 1.0]), torch.tensor(total))
            meter.drain(one_process)
    weights = 0.98 ** np.arange(3)
    means = [np.average(totals[:n], weights=weights[:n][::-1]) for n in (1, 2, 3)]
    assert [f"negative ({mean:.3g})" in caplog.text for mean in means] == [True, True, True]


def test_means_are_those_of_all_processes():
    asked = []

    def reduce(values, reduction):
        asked.append(reduction)
        return values * 3

    meter = LossMeter(PlanLoss(PLAN))
    meter.add(torch.tensor([1.0, 2.0]), torch.tensor(4.0))
    logs = meter.drain(SimpleNamespace(reduce=reduce))
    assert logs == pytest.approx({"loss_biased": 3, "loss_less_biased": 6, "loss_extrapolated": 12})
    assert asked == ["mean"]


def test_no_graph_is_kept():
    meter = LossMeter(PlanLoss(PLAN))
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        meter.add(losses * 2, losses.sum())
    for _ in range(2):  # while steps wait to be added up, and after that
        waiting = [value for pair in vars(meter)["_waiting"] for value in pair]
        held = [value for value in (*vars(meter).values(), *waiting) if isinstance(value, torch.Tensor)]
        assert len(held) in (3, 4) and not any(value.requires_grad for value in held)
        meter.drain(one_process)
    assert losses.tolist() == [1.0, 2.0]
