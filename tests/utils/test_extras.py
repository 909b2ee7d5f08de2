"""A library that an extra brings is named with the extra where it is missing, and texts need none."""

import subprocess
import sys

import pytest
from places import ROOT

from gerne_hf.utils.extras import of_extra


def test_the_note_names_the_extra():
    with pytest.raises(ModuleNotFoundError) as error, of_extra("hpo"):
        import nothing_of_this_name  # noqa: F401
    assert error.value.__notes__ == ['It comes with an extra: pip install "gerne_hf[hpo]"']


def test_without_pillow_images_say_so_and_texts_work():
    script = """
import sys
sys.modules["PIL"] = None
import gerne_hf.cli.groups
from gerne_hf.data import load_texts, demo_multinli
for name in ("load_images", "load_celeba", "demo_bffhq", "corrupt", "load_waterbirds"):
    try:
        getattr(__import__("gerne_hf.data", fromlist=[name]), name)
    except ModuleNotFoundError as error:
        assert 'gerne_hf[vision]' in error.__notes__[0], error
    else:
        raise AssertionError(name)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
