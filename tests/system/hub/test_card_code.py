"""The code of cards runs as it stands, in a new process with an empty cache: adapters, a branch, scores, the metric.
Texts, timm, ViT and ResNet are in test_round_trip.py."""

from pathlib import Path

import numpy as np
import pytest
from published_cards import NAMES, RUNS

from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH

pytestmark = pytest.mark.slow

CODE = """
import json, sys
import published_cards
print("\\n" + json.dumps(getattr(published_cards, sys.argv[1])(*sys.argv[2:])))
"""


@pytest.fixture(scope="module")
def pushed(shared_client):
    return shared_client(CODE, "push", OMP_NUM_THREADS="1").result


@pytest.fixture(scope="module")
def ran(shared_client, pushed):
    return shared_client(CODE, "run", OMP_NUM_THREADS="1").result


@pytest.mark.parametrize("name", RUNS)
def test_a_model_comes_back_with_the_names_of_its_classes(pushed, ran, name):
    assert ran[name]["labels"] == NAMES[RUNS[name]]
    np.testing.assert_allclose(ran[name]["logits"], pushed[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RUNS)
def test_its_answer_is_the_one_that_the_card_tells(ran, name):
    label, probability = ran[name]["told"]
    assert ran[name]["answer"]["label"] == label
    assert ran[name]["answer"]["score"] == pytest.approx(probability, abs=0.0051)


def test_the_branch_has_the_model_and_the_default_branch_has_not(shared_client, pushed):
    card = shared_client.hub.files("tester/branch", revision="debiased")["README.md"].content.decode()
    assert 'model="tester/branch", revision="debiased")' in card
    assert "model.safetensors" not in shared_client.hub.files("tester/branch")


def test_scores(ran):
    assert ran["scores"] == {"equal": True, "license": "mit", "source": ["somebody/birds"]}


def test_the_metric(shared_client):
    done = shared_client(CODE, "metric", Path(GROUP_ACCURACY_PATH) / "README.md", OMP_NUM_THREADS="1").result
    assert done["failed"] == 0 and done["tried"] > 15
