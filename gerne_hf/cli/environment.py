"""What `gerne-hf env` prints: the versions that an issue needs.

Imports no other module of this package.
"""

import platform
from importlib import metadata

PACKAGES = (
    "gerne_hf",
    *("torch", "torchvision", "transformers", "datasets", "accelerate", "huggingface_hub", "tokenizers", "timm"),
    *("peft", "evaluate", "optuna", "numpy", "pyarrow", "scikit-learn", "safetensors", "matplotlib"),
)
"""Distributions whose versions are printed."""


def environment() -> str:
    """Return the versions of the package, of Python and of the libraries, and which devices there are.

    Returns:
        `str`: a list in Markdown, to be pasted into an issue.
    """
    lines = [f"- platform: {platform.platform()}", f"- Python: {platform.python_version()}"]
    lines += [f"- {name}: {_version(name)}" for name in PACKAGES]
    return "\n".join([*lines, f"- devices: {_devices()}"])


def _version(name: str) -> str:
    """Return the version of a distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    """Return the accelerators that torch sees."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{len(names)} x {', '.join(sorted(set(names)))} (CUDA {torch.version.cuda})"
    if torch.backends.mps.is_available():
        return "1 x mps"
    return "cpu alone"
