"""Without a network, what cannot be loaded says which argument chose it and what to give instead."""

import pytest

from gerne_hf.data.loading import load_splits
from gerne_hf.models.images import normalization, pretrained_image_model
from gerne_hf.models.texts import pretrained_text_model, pretrained_tokenizer

NAME = "gerne-hf-tests/nowhere"


@pytest.mark.parametrize(
    "option, load",
    [
        ("dataset_name", load_splits),
        ("model_name_or_path", normalization),
        ("model_name_or_path", lambda name: pretrained_image_model(name, ["a", "b"], 32)),
        ("model_name_or_path", pretrained_tokenizer),
        ("model_name_or_path", lambda name: pretrained_text_model(name, None, ["a", "b"])),
    ],
    ids=["data", "image processor", "image model", "tokenizer", "text model"],
)
def test_the_argument_and_the_way_out_are_named(option, load):
    with pytest.raises(OSError) as caught:
        load(NAME)
    (note,) = caught.value.__notes__
    assert note.startswith(f"--{option} {NAME!r} ") and "give a folder that has it" in note and "--demo" in note
