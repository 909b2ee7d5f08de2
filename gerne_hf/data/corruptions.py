"""Ten image corruptions after Hendrycks and Dietterich (ICLR 2019), applied to batches of small images.

The parameters are those of CIFAR-10-C at severity 4. The libraries that exist have the parameters of ImageNet-C, which
destroy images of 32 pixels. The original uses photographs for frost and a plasma fractal for fog; here random fields
with a 1/f spectrum take their place.
Imports no other module of the package; `corrupted_cifar10.py` uses it.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ..utils.extras import of_extra

with of_extra("vision"):
    from PIL import Image

# Colours are red, green and blue in [0, 1]; the weights of grey are those of perceived brightness.
_GREY = np.array([0.299, 0.587, 0.114])
_MUD = np.array([63, 42, 20]) / 255
_FROST = np.array([0.85, 0.93, 1.0])


def corrupt(images: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """Apply one of [`CORRUPTIONS`] to a batch of images.

    Args:
        images (`np.ndarray` of shape `(n, H, W, 3)`, uint8): the images, which are not changed.
        name (`str`): a key of [`CORRUPTIONS`].
        rng (`np.random.Generator`): draws what is random about the corruption, anew for each image.

    Returns:
        `np.ndarray` of shape `(n, H, W, 3)`, uint8: the corrupted images.

    Example:

    ```python
    >>> import numpy as np
    >>> grey = np.full((1, 8, 8, 3), 100, dtype=np.uint8)
    >>> int(corrupt(grey, "brightness", np.random.default_rng(0))[0, 0, 0, 0])
    151

    ```
    """
    changed = CORRUPTIONS[name](images.astype(np.float64) / 255, rng)
    return np.rint(255 * changed.clip(0, 1)).astype(np.uint8)


def _snow(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let snow fall: bright flakes, blurred along their fall, over a paler image."""
    n, height, width, _ = x.shape
    noise = torch.from_numpy(rng.normal(0.25, 0.3, (n, 1, height, width)))
    zoom = torch.eye(2, 3, dtype=torch.float64).expand(n, 2, 3) / 2.25
    noise = F.grid_sample(noise, F.affine_grid(zoom, list(noise.shape), align_corners=False), align_corners=False)
    noise = torch.where(noise < 0.6, 0.0, noise)
    flakes = _streaks(noise, rng.uniform(-135, -45, (n,)), radius=12, sigma=6)[:, 0, :, :, None].clip(0, 1)
    grey = (x @ _GREY)[..., None]
    pale = 0.85 * x + 0.15 * np.maximum(x, 1.5 * grey + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def _streaks(images: torch.Tensor, degrees: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Blur each image along a direction of its own, as motion does."""
    height, width = images.shape[-2:]
    angle = torch.from_numpy(np.deg2rad(degrees))
    total, weights = torch.zeros_like(images), 0.0
    base = torch.eye(2, 3, dtype=images.dtype).repeat(len(images), 1, 1)
    for step in range(2 * radius + 1):
        moved = base.clone()
        moved[:, 0, 2] = 2 * step * torch.cos(angle) / width
        moved[:, 1, 2] = 2 * step * torch.sin(angle) / height
        weight = float(np.exp(-(step**2) / (2 * sigma**2)))
        grid = F.affine_grid(moved, list(images.shape), align_corners=False)
        total += weight * F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        weights += weight
    return (total / weights).numpy()


def _frost(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay frost over the image."""
    # Ridges of a smooth field look like the ferns of ice on a window.
    ridges = 1 - np.abs(2 * _field(rng, x.shape[:3], decay=1.2) - 1)
    return 0.85 * x + 0.4 * (ridges**2)[..., None] * _FROST


def _fog(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay fog over the image, as bright as its brightest value."""
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + _field(rng, x.shape[:3], decay=2.0)[..., None]) * brightest / (brightest + 1)


def _field(rng: np.random.Generator, shape: tuple[int, int, int], decay: float) -> np.ndarray:
    """Draw smooth random fields of shape `(n, H, W)`, each from 0 to 1.

    Amplitudes fall with the frequency f as 1 / f**decay.
    """
    _, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) / frequency**decay).real
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return (field - low) / (high - low)


def _brightness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make the image brighter."""
    value = x.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + 0.2, 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1e-9), brighter)  # hue and saturation stay


def _contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lower the contrast of the image."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return 0.3 * (x - mean) + mean


def _spatter(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Splash drops of mud onto the image."""
    drops = _blurred(rng.normal(0.65, 0.1, x.shape[:3]), 0.7)
    mud = _blurred(np.where(drops > 0.69, 1.0, 0.0), 0.6)[..., None]
    mud = np.where(mud < 0.8, 0.0, mud)
    return x * (1 - mud) + mud * _MUD


def _elastic(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distort the image by a random affine map and random waves."""
    n, height, width, _ = x.shape
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    plane = np.stack([np.ones_like(down), across, down])
    shift = np.einsum("ndk,khw->nhwd", rng.uniform(-0.05, 0.05, (n, 2, 3)) * [height, width, width], plane)
    for axis in range(2):
        shift[..., axis] += 0.1 * height * _blurred(rng.uniform(-1, 1, (n, height, width)), 0.04 * height)
    identity = F.affine_grid(torch.eye(2, 3, dtype=torch.float64).expand(n, 2, 3), [n, 3, height, width], False)
    grid = identity + torch.from_numpy(shift * 2 / np.array([width, height]))
    moved = F.grid_sample(_channels_first(x), grid, padding_mode="reflection", align_corners=False)
    return moved.permute(0, 2, 3, 1).numpy()


def _jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compress the image as JPEG."""

    def compressed(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=50)
        return Image.open(buffer)

    return _through_pillow(x, compressed)


def _pixelate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make the pixels of the image larger."""
    height, width = x.shape[1:3]
    small = (int(width * 0.75), int(height * 0.75))
    box = Image.Resampling.BOX
    return _through_pillow(x, lambda image: image.resize(small, box).resize((width, height), box))


def _saturate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make the colours of the image more vivid."""
    value, low = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    saturation = (value - low) / np.maximum(value, 1e-9)
    stronger = np.minimum(2 * saturation + 0.1, 1)
    coloured = value - (value - x) * stronger / np.maximum(saturation, 1e-9)
    red = np.concatenate([value, value * (1 - stronger), value * (1 - stronger)], axis=-1)  # grey has the hue 0
    return np.where(saturation > 0, coloured, red)


def _blurred(fields: np.ndarray, sigma: float) -> np.ndarray:
    """Blur fields of shape `(n, H, W)` by a Gaussian; at the edges its weights are normalized anew."""

    def weights(size: int) -> np.ndarray:
        distance = np.arange(size)[:, None] - np.arange(size)[None]
        kernel = np.exp(-(distance**2) / (2 * sigma**2))
        return kernel / kernel.sum(axis=1, keepdims=True)

    return weights(fields.shape[1]) @ fields @ weights(fields.shape[2]).T


def _channels_first(x: np.ndarray) -> torch.Tensor:
    """Return images of shape `(n, H, W, 3)` as a tensor of shape `(n, 3, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _through_pillow(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply a function of a Pillow image to each image of the batch."""
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
"""The ten corruptions by name: functions of images of shape `(n, H, W, 3)`, in [0, 1], and a random generator."""
