"""The table of options on the site names every option of `GerneConfig` and its default."""

import dataclasses
import re

from places import ROOT
from transformers import TrainingArguments

from gerne_hf import GerneConfig


def test_every_option_and_its_default_is_in_the_table():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    written = {}
    for names, defaults in rows:
        names, defaults = re.findall(r"`(\w+)`", names), [part.strip(" `") for part in defaults.split(", ")]
        written |= dict(zip(names, defaults * len(names) if len(defaults) == 1 else defaults, strict=True))
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    own = {f.name: str(f.default) for f in dataclasses.fields(GerneConfig) if f.name not in inherited}
    written = {name: default.strip('"') for name, default in written.items()}
    assert {name: written.get(name) for name in own} == own
    assert set(written) - set(own) == {"metric_for_best_model"}
