"""A config of wild values is a valid one, or an error that names the field."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from gerne_hf import GerneConfig
from gerne_hf.baselines import BaselineConfig
from gerne_hf.evaluation.score_names import EXTRA_METRICS
from gerne_hf.method.beta import BETA_SCHEDULES
from gerne_hf.method.plans import PLANS
from gerne_hf.method.pseudo_groups import RULES

OWN = {f.name for f in dataclasses.fields(BaselineConfig)} - {f.name for f in dataclasses.fields(TrainingArguments)}


def number(low=-math.inf, high=math.inf, open_low=False, open_high=False):
    def valid(value):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        return (value > low if open_low else value >= low) and (value < high if open_high else value <= high)

    return valid


def optional(valid):
    return lambda value: value is None or valid(value)


def text(value):
    return isinstance(value, str) and bool(value)


def texts(value):
    return text(value) or (isinstance(value, list) and all(map(text, value)) and len(set(value)) == len(value))


def one_of(*names):
    return lambda value: isinstance(value, str) and value in names


def boolean(value):
    return isinstance(value, bool)


def positive(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


VALID = {
    "hub_patience": number(0),
    "hub_overwrite": boolean,
    "hub_training_args": boolean,
    "attribute_column": optional(texts),
    "label_column": optional(text),
    "overlapping_columns": optional(texts),
    "plan": one_of(*PLANS),
    "c": number(0, 1, open_low=True),
    "beta": number(),
    "beta_schedule": one_of(*BETA_SCHEDULES),
    "beta_ramp": number(0, 1, open_low=True),
    "beta_out_of_bounds": one_of("error", "warn", "ignore"),
    "empty_groups": one_of("error", "ignore"),
    "biased_share": number(0, 1, open_low=True, open_high=True),
    "class_balanced": boolean,
    "pseudo_attributes": boolean,
    "pseudo_rule": one_of("auto", *RULES),
    "biased_folds": optional(lambda value: isinstance(value, int) and value >= 1),
    "threshold": optional(number(0, 1, open_low=True, open_high=True)),
    "biased_learning_rate": optional(number(0)),
    "biased_weight_decay": optional(number(0)),
    "biased_epochs": optional(number(0)),
    "extra_metrics": lambda value: value is None or (isinstance(value, list) and set(value) <= set(EXTRA_METRICS)),
    "training_accuracies": one_of("auto", "always", "never"),
    "attribute_source": lambda value: value is None or (isinstance(value, str) and value),
    "biased_model": optional(text),
    "pseudo_attributes_dir": optional(text),
    "forward_mode": one_of("auto", "fused", "separate"),
    "group_dro_step_size": number(0, open_low=True),
    "group_dro_adjustment": number(0),
    "jtt_upweight": number(0),
    "mixture_ratio": number(1),
    "afr_held_out": number(0, 1, open_low=True, open_high=True),
    "self_dropout": number(0, 1, open_low=True, open_high=True),
    "self_learning_rate": number(0, open_low=True),
    "self_steps": positive,
    "self_rows": positive,
    "afr_gamma": number(0),
    "afr_penalty": number(0),
    "afr_learning_rate": number(0, open_low=True),
    "afr_steps": positive,
    "jtt_first_epochs": number(0, open_low=True),
}
"""What each field may hold once a config has been made of it."""

wild = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**400), 2**63, "", " ", "1e-3", "0.5", "nan", "none", "ERM", b"erm", "\0", "pläce"]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0, 1),
    st.text(max_size=4),
    st.sampled_from([*PLANS, *BETA_SCHEDULES, "error", "warn", "ignore", "auto", "fused", "separate", "place"]),
    st.lists(st.sampled_from(["place", "", "night", 3, None, ["place"]]), max_size=3),
    st.sampled_from([{}, {"a": 1}, (), ("place",), 1j, object(), int, np.float32(0.5), np.array([0.5, 0.5])]),
)


@pytest.mark.parametrize("name", sorted(VALID))
def test_every_field_alone(name, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("out"))

    @settings(derandomize=True, deadline=None, max_examples=40, database=None)
    @given(wild)
    @example("1e-3")
    @example(10**400)
    @example(math.nan)
    @example(True)
    @example(None)
    @example(1j)
    @example([["place"]])
    def check(value):
        try:
            config = BaselineConfig(output_dir=folder, use_cpu=True, report_to="none", **{name: value})
        except (TypeError, ValueError) as error:
            assert name in str(error), f"{name}={value!r}: {error!r}"
            return
        assert VALID[name](getattr(config, name)), f"{name}={value!r} was accepted"

    check()


def test_every_field_of_its_own_is_checked():
    """A field that is new here needs a line in VALID."""
    elsewhere = {"resume_with_changes", "worst_examples"}  # tests of their own
    assert OWN - elsewhere == set(VALID)


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(st.dictionaries(st.sampled_from(sorted(VALID)), wild, min_size=2, max_size=5))
def test_several_fields_at_once(values):
    try:
        config = BaselineConfig(output_dir="unused", use_cpu=True, report_to="none", **values)
    except (TypeError, ValueError) as error:
        assert any(name in str(error) for name in values), f"{values}: {error!r}"
        return
    for name in values:
        assert VALID[name](getattr(config, name)), f"{name}={values[name]!r} was accepted"


def test_numbers_of_numpy_are_numbers():
    config = GerneConfig(output_dir="unused", use_cpu=True, c=np.float64(0.25), beta=np.float32(0.5))
    assert type(config.c) is float and type(config.beta) is float and (config.c, config.beta) == (0.25, 0.5)
