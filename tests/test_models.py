"""The multilayer perceptron: shapes, loss, and the way to disk and back."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from gerne_hf.models import MLPConfig, MLPForImageClassification


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    "settings, sizes",
    [
        ({}, [(2352, 100), (100, 100), (100, 2)]),
        ({"image_size": 8, "num_labels": 10}, [(192, 100), (100, 100), (100, 10)]),
        ({"image_size": 4, "num_channels": 1, "hidden_sizes": [7], "num_labels": 3}, [(16, 7), (7, 3)]),
    ],
)
def test_layers_follow_the_config(settings, sizes):
    config = MLPConfig(**settings)
    model = MLPForImageClassification(config)
    assert [(layer.in_features, layer.out_features) for layer in linears(model)] == sizes
    images = torch.rand(5, config.num_channels, config.image_size, config.image_size)
    output = model(images)
    assert output.logits.shape == (5, config.num_labels) and output.loss is None


def test_the_forward_is_a_chain_of_linear_layers_with_relu():
    model = MLPForImageClassification(MLPConfig(image_size=4, hidden_sizes=[6, 5], num_labels=3)).eval()
    images = torch.randn(4, 3, 4, 4)
    first, second, last = linears(model)
    by_hand = last(second(first(images.reshape(4, -1)).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(model(images).logits, by_hand)


def test_the_loss_is_cross_entropy():
    model = MLPForImageClassification(MLPConfig(image_size=4, num_labels=10))
    images, labels = torch.rand(6, 3, 4, 4), torch.tensor([0, 9, 3, 3, 1, 5])
    output = model(images, labels)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, labels))
    assert output.loss.ndim == 0
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_weights_start_as_those_of_torch():
    torch.manual_seed(0)
    layer = linears(MLPForImageClassification(MLPConfig(image_size=10, num_labels=10)))[0]
    bound = layer.in_features**-0.5
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= bound and values.abs().max() > 0.9 * bound
    assert abs(layer.weight.std().item() - bound / 3**0.5) < 0.02 * bound


def test_the_way_to_disk_and_back(tmp_path):
    config = MLPConfig(image_size=4, hidden_sizes=[6, 5], num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    model = MLPForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    images = torch.rand(4, 3, 4, 4)
    for loader in (MLPForImageClassification, AutoModelForImageClassification):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is MLPForImageClassification and not loaded.training
        assert torch.equal(loaded(images).logits, model(images).logits)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, MLPConfig) and loaded.hidden_sizes == [6, 5] and loaded.image_size == 4
    assert loaded.id2label == {0: "a", 1: "b", 2: "c"}


def test_hidden_sizes_are_not_shared_between_configs():
    first, second = MLPConfig(), MLPConfig()
    first.hidden_sizes.append(7)
    assert second.hidden_sizes == [100, 100]
