"""The multilayer perceptron of the paper's Colored MNIST experiments, as a model of Transformers.

Imports nothing of this package. Importing the module registers the model's class, so that `AutoModel` classes load its
checkpoints.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention


class MLPConfig(PreTrainedConfig):
    """Settings of [`MLPForImageClassification`].

    Args:
        image_size (`int`, defaults to `28`): height and width of the images in pixels.
        num_channels (`int`, defaults to `3`): number of colour channels.
        hidden_sizes (`list[int]`, *optional*): number of units of each hidden layer; two layers of 100 if not given.
            An empty list makes a linear model.

    Example:

    ```python
    >>> MLPConfig(image_size=14).hidden_sizes
    [100, 100]

    ```
    """

    model_type = "gerne_mlp"

    image_size: int = 28
    num_channels: int = 3
    hidden_sizes: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the default layers.

        Args:
            kwargs: the settings that are not fields of this class, which the parent class takes.
        """
        self.hidden_sizes = [100, 100] if self.hidden_sizes is None else self.hidden_sizes
        super().__post_init__(**kwargs)


class MLPForImageClassification(PreTrainedModel):
    """A classifier of fully connected layers on the pixels of an image, with ReLU between them.

    Args:
        config ([`MLPConfig`]): sizes of the images and of the layers, and the names of the classes.

    Example:

    ```python
    >>> model = MLPForImageClassification(MLPConfig(image_size=14, num_labels=10))
    >>> model(torch.zeros(2, 3, 14, 14)).logits.shape
    torch.Size([2, 10])

    ```
    """

    config_class = MLPConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        sizes = [config.num_channels * config.image_size**2, *(config.hidden_sizes or [])]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.hidden = nn.Sequential(nn.Flatten(), *layers)
        self.classifier = nn.Linear(sizes[-1], cast(int, config.num_labels))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize a layer as PyTorch does, which the implementations that are compared with do too."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None
    ) -> ImageClassifierOutputWithNoAttention:
        """Compute the class scores of images.

        Args:
            pixel_values (`torch.Tensor` of shape `(B, C, H, W)`): the images.
            labels (`torch.Tensor` of shape `(B,)`, *optional*): class ids; if given, the loss is returned too.

        Returns:
            [`~transformers.modeling_outputs.ImageClassifierOutputWithNoAttention`]: `logits` of shape `(B, K)` and
            `loss`, their mean cross-entropy.
        """
        logits = self.classifier(self.hidden(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


AutoConfig.register("gerne_mlp", MLPConfig, exist_ok=True)

AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)
