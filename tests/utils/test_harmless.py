"""Which values of settings may be told: the ones that are known to be harmless, and no others."""

from dataclasses import dataclass, field, fields

import pytest

from gerne_hf import GerneConfig
from gerne_hf.baselines.config import BaselineConfig
from gerne_hf.utils.harmless import declare, harmless_text, is_secret, shown


@dataclass
class Own:
    rounds: int = 1
    shape: str = field(default="flat", metadata={"choices": ["flat", "round"]})
    api_key: int = 0
    free: str = ""
    more: dict | None = None


@pytest.fixture(autouse=True, scope="module")
def known():
    declare(Own)


@pytest.mark.parametrize(
    "name, value",
    [
        *[("rounds", 3), ("rounds", "3"), ("rounds", "-1e-4"), ("shape", "round"), ("c", 0.5), ("beta", "1")],
        *[("use_cpu", "true"), ("eval_strategy", "epoch"), ("optim", "sgd"), ("plan", "shared"), ("seed", 4)],
        *[("dataset_name", "nyu-mll/multi_nli"), ("attribute_column", ["place", "time"]), ("report_to", "none")],
        *[("more", {"a": 1, "b": True}), ("metric_for_best_model", "eval_loss"), ("biased_model", None)],
    ],
)
def test_what_is_known_is_shown(name, value):
    assert shown(name, value) == value


@pytest.mark.parametrize(
    "name, value",
    [
        *[("rounds", "hunter2"), ("shape", "hunter2"), ("api_key", 12), ("free", "hunter2"), ("unknown", 12)],
        *[("c", "hunter2"), ("use_cpu", "hunter2"), ("eval_strategy", "hunter2"), ("hub_token", "hunter2")],
        *[("run_name", "hunter2"), ("unknown", {"a": 1}), ("dataset_name", "me:hunter2@host")],
        *[("dataset_name", "hf_" + "x" * 20), ("attribute_column", "a\nb"), ("lr_scheduler_kwargs", "hunter2")],
    ],
)
def test_all_else_is_hidden(name, value):
    assert shown(name, value) == "..."


def test_parts_are_looked_at_one_by_one():
    assert shown("more", {"a": 1, "b": "hunter2", "key": 3, "deep": {"c": 2, "d": "x"}}) == {
        **{"a": 1, "b": "...", "key": "..."},
        "deep": {"c": 2, "d": "..."},
    }
    assert shown("lr_scheduler_kwargs", '{"num_cycles": 2, "x": "y"}') == '{"num_cycles": 2, "x": "..."}'
    own = '{"erm": {"learning_rate": 0.1, "hub_token": "hunter2"}}'
    assert shown("method_settings", own) == '{"erm": {"learning_rate": 0.1, "hub_token": "..."}}'
    assert shown("attribute_column", ["place", "x:hunter2@y"]) == ["place", "..."]


@pytest.mark.parametrize(
    "text, left",
    [
        ("https://me:pw@host/x", "https://host/x"),
        ("postgresql://me:p/w@host:5432/db", "postgresql://host:5432/db"),
        ("mysql+pymysql://me:p?w#@host/db", "mysql+pymysql://host/db"),
        ("https://host/x?token=pw", "https://host/x"),
        ("s3://bucket/x#pw", "s3://bucket/x"),
        ("file:///home/me/birds?pw", "birds"),
        ("/home/me/birds/", "birds"),
        ("~/birds", "birds"),
        ("nyu-mll/multi_nli", "nyu-mll/multi_nli"),
        ("//me:pw@host/x", "x"),
    ],
)
def test_addresses_and_paths(text, left):
    assert harmless_text(text) == left


def test_the_fields_of_transformers_and_ours_are_no_secrets_but_for_the_token():
    assert [one.name for one in fields(BaselineConfig) if is_secret(one.name)] == ["hub_token"]
    assert issubclass(BaselineConfig, GerneConfig)
