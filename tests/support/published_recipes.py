"""Runs recipes on their demos with few steps and pushes what they make; run in a process of its own.

`python published_recipes.py SPECIFICATIONS`: the file of a JSON list of runs, each with the `recipe`, the command line
`given` and perhaps a `label`, which is the recipe by default. A line of JSON with the errors by label is printed last.
"""

import json
import pathlib
import runpy
import sys
import traceback

import torch
from captured_logs import logged
from places import ROOT

from gerne_hf import recipes
from gerne_hf.recipes import parse_arguments
from gerne_hf.reports import plots

PIXEL = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\b\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc`\0\0\0\2\0\1H\xaf\xa4q"
    b"\0\0\0\0IEND\xaeB`\x82"
)


def draw(_, path, *others):
    """A picture in no time; what is drawn is looked at by others."""
    pathlib.Path(path).write_bytes(PIXEL)


plots.plot_training = plots.plot_comparison = plots.plot_pseudo_attributes = draw


def run(recipe, given):
    path = str(ROOT / "recipes" / f"{recipe}.py")
    module = runpy.run_path(path)
    known = module.get("Arguments") or vars(recipes)["ImageArguments"]
    module["main"](*parse_arguments(known, path, given))


if __name__ == "__main__":
    torch.set_num_threads(1)
    outcomes = {}
    for wanted in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        with logged("gerne_hf", besides="fewer than 10 rows of the evaluation set") as warnings:
            try:
                run(wanted["recipe"], wanted["given"])
                error = None
            except Exception as raised:
                error = "".join(traceback.format_exception_only(raised))
        outcomes[wanted.get("label", wanted["recipe"])] = {"error": error, "warnings": list(warnings)}
    print("\n" + json.dumps(outcomes), flush=True)
