"""The multilayer perceptron: shapes, loss, and the way to disk and back. Frozen backbones, BatchNorm, weight files."""

import copy
import importlib.util

import pytest
import torch
import torch.nn.functional as F
from places import ROOT
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from gerne_hf.models.heads import classification_head, freeze_batch_norm, freeze_layers, frozen_features
from gerne_hf.models.mlp import MLPConfig, MLPForImageClassification


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    "settings, sizes",
    [
        ({}, [(2352, 100), (100, 100), (100, 2)]),
        ({"image_size": 8, "num_labels": 10}, [(192, 100), (100, 100), (100, 10)]),
        ({"image_size": 4, "num_channels": 1, "hidden_sizes": [7], "num_labels": 3}, [(16, 7), (7, 3)]),
        ({"image_size": 1, "num_channels": 9, "hidden_sizes": []}, [(9, 2)]),
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


def test_without_hidden_layers_it_is_a_linear_model(tmp_path):
    model = MLPForImageClassification(MLPConfig(image_size=1, num_channels=6, hidden_sizes=[], num_labels=3))
    features = torch.randn(4, 6, 1, 1)
    expected = features[:, :, 0, 0] @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(features).logits, expected)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.hidden_sizes == [] and torch.equal(loaded(features).logits, model(features).logits)


# ---- frozen backbones ---------------------------------------------------------------------------------------------


def tiny_resnet(num_labels=3):
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_labels=num_labels, **sizes))


def tiny_vit():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes))


def tiny_timm():
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    config = TimmWrapperConfig(architecture="test_efficientnet", num_labels=3)
    return TimmWrapperForImageClassification(config)


@pytest.mark.parametrize("make", [tiny_resnet, tiny_vit, tiny_timm])
def test_features_are_what_the_head_sees(make):
    torch.manual_seed(0)
    model = make().train()
    images = torch.randn(10, 3, 16, 16)
    features = frozen_features(model, [{"pixel_values": image, "label": 0} for image in images], batch_size=4)
    head = classification_head(model)
    assert features.shape == (10, head.in_features) and features.dtype == torch.float32
    assert not model.training and not features.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(head(features), model(images).logits)
    assert not head._forward_pre_hooks


def test_a_model_without_a_linear_head_is_named():
    model = tiny_resnet()
    model.classifier = nn.Identity()
    with pytest.raises(ValueError, match="ResNetForImageClassification has no linear layer with 3 outputs"):
        classification_head(model)


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_scale():
    model = freeze_batch_norm(tiny_resnet()).train()
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    assert len(statistics) >= 12 and model.training
    images, labels = 3 + torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    trained = model(images, labels).loss
    trained.backward()
    assert all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.testing.assert_close(trained, model.eval()(images, labels).loss)

    for module in copy.deepcopy(model).train().modules():  # a copy keeps its own layers frozen
        if isinstance(module, nn.BatchNorm2d):
            assert not module.training and module.train.__self__ is module


def test_frozen_layers_get_no_gradient_and_the_others_do():
    model = freeze_layers(tiny_resnet(), ["resnet.embedder", "resnet.encoder.stages.0"]).train()
    model(torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])).loss.backward()
    frozen = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert frozen and all(name.startswith(("resnet.embedder.", "resnet.encoder.stages.0.")) for name in frozen)
    assert trained and not any(name.startswith(("resnet.embedder.", "resnet.encoder.stages.0.")) for name in trained)


def test_all_layers_but_the_head():
    model = freeze_layers(tiny_resnet(), ["all_but_head"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"classifier.1.weight", "classifier.1.bias"}


def test_frozen_layers_that_do_not_exist_or_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"no layer 'resnet.embeder' to freeze; did you mean resnet.embedder"):
        freeze_layers(tiny_resnet(), ["resnet.embeder"])
    with pytest.raises(ValueError, match="leaves nothing to train; name fewer layers"):
        freeze_layers(tiny_resnet(), ["resnet", "classifier"])


# ---- weights that come as a package -------------------------------------------------------------------------------


def test_every_tensor_of_the_weight_file_has_its_place_in_timm():
    import timm

    path = ROOT / "benchmarks" / "backbones.py"
    spec = importlib.util.spec_from_file_location("backbones", path)
    backbones = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backbones)

    def layer(name):
        tensors = (
            ("weight", "bias", "running_mean", "running_var", "num_batches_tracked") if "bn" in name else ("weight",)
        )
        return [f"{name}.{tensor}" for tensor in tensors]

    names = [*layer("_conv_stem"), *layer("_bn0"), *layer("_conv_head"), *layer("_bn1"), "_fc.weight", "_fc.bias"]
    for i in range(16):
        for part in backbones.OTHER_BLOCKS if i else backbones.FIRST_BLOCK:
            names += layer(f"_blocks.{i}.{part}")
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite0")
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(model.blocks) for j in range(len(stage))]
    renamed = [backbones.timm_name(name, blocks) for name in names]
    assert len(names) == 296 and sorted(renamed) == sorted(model.state_dict())
    assert backbones.timm_name("_blocks.15._project_conv.weight", blocks) == "blocks.6.0.conv_pwl.weight"
