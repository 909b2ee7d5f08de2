"""How photographs become squares: the loaders, and the processors that are saved with the model, do the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from gerne_hf.data.images import ImageTransform, as_pixels, normalize
from gerne_hf.models.images import ImageBackbone
from gerne_hf.utils.crops import CROPS


def picture(width, height):
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 256, (7, 5, 3), dtype=np.uint8))
    return small.resize((width, height))


@pytest.mark.parametrize("size", [(160, 200), (60, 40), (50, 50)])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("timm", [True, False])
def test_the_saved_processor_makes_the_images_that_were_trained_on(size, crop, timm):
    image = picture(*size)
    backbone = ImageBackbone(None, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), timm, crop)
    trained = normalize(torch.from_numpy(as_pixels(image, 32, crop)[None].copy()), backbone.mean, backbone.std)
    processed = backbone.processor(image, return_tensors="pt")["pixel_values"]
    assert processed.shape == trained.shape == (1, 3, 32, 32)
    # Transformers resizes tensors, timm and the loaders resize Pillow's images: one step of 255 apart here and there
    assert float((processed - trained).abs().max()) < (1e-5 if timm else 2.5 / 255 / 0.2)


def test_each_way_keeps_what_it_says():
    stripes = np.zeros((40, 80, 3), dtype=np.uint8)
    stripes[:, 20:60] = 255  # the square in the middle
    image = Image.fromarray(stripes)
    assert (as_pixels(image, 16, "center") == 255).mean() > 0.85
    assert (as_pixels(image, 16, "none") > 128).mean() == pytest.approx(0.5)
    framed = np.full((64, 64, 3), 255, dtype=np.uint8)
    framed[:4] = framed[-4:] = framed[:, :4] = framed[:, -4:] = 0  # an eighth of height and width in all
    assert (as_pixels(Image.fromarray(framed), 56, "border") == 255).all()
    assert not (as_pixels(Image.fromarray(framed), 56, "none") == 255).all()


def test_another_way_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="crop must be one of 'none', 'center', 'border'; found 'centre'"):
        ImageTransform("image", "label", 32, crop="centre")
