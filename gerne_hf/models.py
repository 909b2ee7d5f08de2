"""The multilayer perceptron of the paper's Colored MNIST experiments, as a `PreTrainedModel`, and frozen backbones."""

import difflib
import types
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import tqdm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    default_data_collator,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention


class MLPConfig(PreTrainedConfig):
    """Settings of [`MLPForImageClassification`].

    Args:
        image_size (`int`, defaults to `28`): height and width of the images in pixels.
        num_channels (`int`, defaults to `3`): colour channels.
        hidden_sizes (`list[int]`, *optional*): units of the hidden layers; two of 100 if not given. An empty list
            makes a linear model.
    """

    model_type = "gerne_mlp"

    image_size: int = 28
    num_channels: int = 3
    hidden_sizes: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.hidden_sizes = [100, 100] if self.hidden_sizes is None else self.hidden_sizes
        super().__post_init__(**kwargs)


class MLPForImageClassification(PreTrainedModel):
    """Fully connected layers with ReLU between them, on the pixels of an image, and cross-entropy as the loss."""

    config_class = MLPConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        sizes = [config.num_channels * config.image_size**2, *config.hidden_sizes]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.hidden = nn.Sequential(nn.Flatten(), *layers)
        self.classifier = nn.Linear(sizes[-1], config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):  # PyTorch's own, as in the compared implementations
            module.reset_parameters()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None
    ) -> ImageClassifierOutputWithNoAttention:
        """Class scores of images.

        Args:
            pixel_values (`torch.Tensor` of shape `(B, C, H, W)`): the images.
            labels (`torch.Tensor` of shape `(B,)`, *optional*): class ids; with them the loss is returned too.
        """
        logits = self.classifier(self.hidden(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


def classification_head(model: nn.Module) -> nn.Linear:
    """The layer that turns features into class scores: the last linear layer with an output a class.

    Raises:
        ValueError: if the model has none.
    """
    classes = model.config.num_labels
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {classes} outputs, so no head to replace or fit anew"
        )
    return heads[-1]


@torch.no_grad()
def frozen_features(
    model: PreTrainedModel, dataset: Any, batch_size: int = 128, description: str = "Computing features"
) -> torch.Tensor:
    """What the classification head of a model sees of each row, the model being frozen.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier; put into evaluation mode.
        dataset: a map-style data set of rows with `pixel_values`.
        batch_size (`int`, defaults to `128`): rows of a forward.
        description (`str`): text of the progress bar.

    Returns:
        `torch.Tensor` of shape `(N, D)`, float32, on the CPU.
    """
    model.eval()
    parts: list[torch.Tensor] = []
    hook = classification_head(model).register_forward_pre_hook(
        lambda module, inputs: parts.append(inputs[0].float().cpu())
    )
    try:
        for batch in tqdm(DataLoader(dataset, batch_size, collate_fn=default_data_collator), desc=description):
            model(pixel_values=batch["pixel_values"].to(model.device))
    finally:
        hook.remove()
    return torch.cat(parts)


def freeze_batch_norm(model: nn.Module) -> nn.Module:
    """Keep the statistics of a model's BatchNorm layers as they are, in training too; their scale and shift train."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = types.MethodType(_stay, module)
    return model


def freeze_layers(model: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Keep the weights of some layers as they are: no gradient, no update.

    Args:
        model (`nn.Module`): changed in place.
        layers (`Sequence[str]`): names of modules, as in `model.named_modules()`; all that is below them is frozen.

    Raises:
        ValueError: for a name that is no module of the model, with the nearest ones; and if nothing is left to train.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3) or list(dict(model.named_children()))
            raise ValueError(f"the model has no layer {name!r} to freeze; did you mean {', '.join(near)}?")
        modules[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freezing {', '.join(layers)} leaves nothing to train; name fewer layers")
    return model


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


AutoConfig.register("gerne_mlp", MLPConfig, exist_ok=True)
AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)
