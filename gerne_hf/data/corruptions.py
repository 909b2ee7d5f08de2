"""Ten image corruptions after Hendrycks and Dietterich (ICLR 2019), for batches of small images: NumPy, torch, Pillow.

Parameters are those of CIFAR-10-C at severity 4. The libraries that exist have the parameters of ImageNet-C, which
destroy images of 32 pixels. Where the original draws on photographs or a plasma fractal (frost, fog), random fields
with a 1/f spectrum take their place.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

_GREY = np.array([0.299, 0.587, 0.114])
_MUD = np.array([63, 42, 20]) / 255
_FROST = np.array([0.85, 0.93, 1.0])


def corrupt(images: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """Apply one of [`CORRUPTIONS`].

    Args:
        images (`np.ndarray` of shape `(n, H, W, 3)`, uint8): the images.
        name (`str`): the corruption.
        rng (`np.random.Generator`): what is random about it, for each image anew.

    Returns:
        `np.ndarray` of shape `(n, H, W, 3)`, uint8.
    """
    changed = CORRUPTIONS[name](images.astype(np.float64) / 255, rng)
    return np.rint(255 * changed.clip(0, 1)).astype(np.uint8)


def _snow(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, height, width, _ = x.shape
    flakes = torch.from_numpy(rng.normal(0.25, 0.3, (n, 1, height, width)))
    zoom = torch.eye(2, 3, dtype=torch.float64).expand(n, 2, 3) / 2.25
    flakes = F.grid_sample(flakes, F.affine_grid(zoom, flakes.shape, align_corners=False), align_corners=False)
    flakes = torch.where(flakes < 0.6, 0.0, flakes)
    flakes = _streaks(flakes, rng.uniform(-135, -45, n), radius=12, sigma=6)[:, 0, :, :, None].clip(0, 1)
    grey = (x @ _GREY)[..., None]
    pale = 0.85 * x + 0.15 * np.maximum(x, 1.5 * grey + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def _streaks(images: torch.Tensor, degrees: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Motion blur in a direction of its own for each image."""
    height, width = images.shape[-2:]
    angle = torch.from_numpy(np.deg2rad(degrees))
    total, weights = torch.zeros_like(images), 0.0
    base = torch.eye(2, 3, dtype=images.dtype).repeat(len(images), 1, 1)
    for step in range(2 * radius + 1):
        moved = base.clone()
        moved[:, 0, 2] = 2 * step * torch.cos(angle) / width
        moved[:, 1, 2] = 2 * step * torch.sin(angle) / height
        weight = float(np.exp(-(step**2) / (2 * sigma**2)))
        grid = F.affine_grid(moved, images.shape, align_corners=False)
        total += weight * F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        weights += weight
    return (total / weights).numpy()


def _frost(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Ridges of a smooth field look like the ferns of ice on a window.
    ridges = 1 - np.abs(2 * _field(rng, x.shape[:3], decay=1.2) - 1)
    return 0.85 * x + 0.4 * (ridges**2)[..., None] * _FROST


def _fog(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + _field(rng, x.shape[:3], decay=2.0)[..., None]) * brightest / (brightest + 1)


def _field(rng: np.random.Generator, shape: tuple[int, int, int], decay: float) -> np.ndarray:
    """Random fields of shape `(n, H, W)` whose amplitudes fall with the frequency; each spans [0, 1]."""
    _, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) / frequency**decay).real
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return (field - low) / (high - low)


def _brightness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    value = x.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + 0.2, 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1e-9), brighter)  # hue and saturation stay


def _contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return 0.3 * (x - mean) + mean


def _spatter(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drops = _blurred(rng.normal(0.65, 0.1, x.shape[:3]), 0.7)
    mud = _blurred(np.where(drops > 0.69, 1.0, 0.0), 0.6)[..., None]
    mud = np.where(mud < 0.8, 0.0, mud)
    return x * (1 - mud) + mud * _MUD


def _elastic(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, height, width, _ = x.shape
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    plane = np.stack([np.ones_like(down), across, down])  # a random affine map, then random waves
    shift = np.einsum("ndk,khw->nhwd", rng.uniform(-0.05, 0.05, (n, 2, 3)) * [height, width, width], plane)
    for axis in range(2):
        shift[..., axis] += 0.1 * height * _blurred(rng.uniform(-1, 1, (n, height, width)), 0.04 * height)
    identity = F.affine_grid(torch.eye(2, 3, dtype=torch.float64).expand(n, 2, 3), (n, 3, height, width), False)
    grid = identity + torch.from_numpy(shift * 2 / np.array([width, height]))
    moved = F.grid_sample(_channels_first(x), grid, padding_mode="reflection", align_corners=False)
    return moved.permute(0, 2, 3, 1).numpy()


def _jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    def compressed(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=50)
        return Image.open(buffer)

    return _through_pillow(x, compressed)


def _pixelate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[1:3]
    small = (int(width * 0.75), int(height * 0.75))
    return _through_pillow(x, lambda image: image.resize(small, Image.BOX).resize((width, height), Image.BOX))


def _saturate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    value, low = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    saturation = (value - low) / np.maximum(value, 1e-9)
    stronger = np.minimum(2 * saturation + 0.1, 1)
    coloured = value - (value - x) * stronger / np.maximum(saturation, 1e-9)
    red = np.concatenate([value, value * (1 - stronger), value * (1 - stronger)], axis=-1)  # grey has the hue 0
    return np.where(saturation > 0, coloured, red)


def _blurred(fields: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `(n, H, W)` fields; beyond an edge the weights are left out."""

    def weights(size: int) -> np.ndarray:
        distance = np.arange(size)[:, None] - np.arange(size)[None]
        kernel = np.exp(-(distance**2) / (2 * sigma**2))
        return kernel / kernel.sum(axis=1, keepdims=True)

    return weights(fields.shape[1]) @ fields @ weights(fields.shape[2]).T


def _channels_first(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _through_pillow(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    pixels = np.rint(255 * x).astype(np.uint8)
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels]) / 255


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "spatter": _spatter,
    "elastic": _elastic,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "saturate": _saturate,
}
"""The ten corruptions by name, each a function of images in [0, 1] and a generator."""
