"""A subclass of GerneConfig with fields of one's own."""

from dataclasses import dataclass, field
from typing import Optional

import pytest
from helpers import table, trainer
from transformers import HfArgumentParser

from gerne_hf import GerneConfig, GerneTrainer


@dataclass
class Mine(GerneConfig):
    """As scripts have it: fields of types that no field of GERNE has."""

    note: Optional[str] = None  # noqa: UP045
    extra: dict | None = None
    tag: str = ""
    sizes: tuple[int, ...] = ()
    layers: list[int] = field(default_factory=list)
    beta: float = 0.5


def test_fields_of_ones_own_are_left_alone(tmp_path):
    args = Mine(output_dir=str(tmp_path), use_cpu=True, attribute_column="place", max_steps=1, report_to="none")
    assert (args.note, args.extra, args.tag, args.sizes, args.layers) == (None, None, "", (), [])
    args = Mine(output_dir=str(tmp_path), use_cpu=True, note="", extra={"a": 1}, tag="x", sizes=(1, 1), layers=[2])
    assert (args.note, args.extra, args.tag, args.sizes, args.layers) == ("", {"a": 1}, "x", (1, 1), [2])


def test_such_a_config_trains(tmp_path):
    subject = trainer(tmp_path)
    args = Mine(**{f: getattr(subject.args, f) for f in ("output_dir", "max_steps", "report_to", "use_cpu")})
    args.attribute_column, args.disable_tqdm = "place", True
    subject = GerneTrainer(model=subject.model, args=args, train_dataset=table())
    subject.train()
    assert subject.state.global_step == 2 and subject.args.beta == 0.5


def test_fields_of_gerne_are_still_checked(tmp_path):
    for wrong in ({"beta": "1"}, {"class_balanced": "no"}, {"label_column": ""}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Mine(output_dir=str(tmp_path), **wrong)


def test_such_a_config_is_parsed(tmp_path):
    [args] = HfArgumentParser(Mine).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), "--note", "a note", "--beta", "1.5", "--use_cpu", "true"]
    )
    assert args.note == "a note" and args.beta == 1.5
