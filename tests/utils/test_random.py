"""Random numbers that a seed and a batch decide, drawn without a trace in the streams of others."""

import random

import numpy as np
import pytest
import torch

from gerne_hf.utils.random import batch_seed, seeded


def draws():
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_seeding_leaves_no_trace():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draws(), draws()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    found = [draws()]
    with seeded(batch_seed(3, [5, 6])):
        inside = draws()
    found.append(draws())
    assert found == expected
    with seeded(batch_seed(3, [5, 6])):
        assert draws() == inside
    assert len({batch_seed(3, [5, 6]), batch_seed(3, [6, 5]), batch_seed(4, [5, 6])}) == 3


def test_an_error_leaves_no_trace_either():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(KeyError), seeded(5):
        draws()
        raise KeyError
    assert draws() == expected
