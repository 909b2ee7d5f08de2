"""The multilayer perceptron of the paper's Colored MNIST experiments, as a `PreTrainedModel`, and frozen backbones."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
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


AutoConfig.register("gerne_mlp", MLPConfig, exist_ok=True)

AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)
