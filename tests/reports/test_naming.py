"""Which method a model in a repository is of, by its group_metrics.json, and when another may take its place."""

import json

import pytest
from helpers import trainer

from gerne_hf.baselines import GroupDROTrainer, SquareRootTrainer
from gerne_hf.reports.naming import UNKNOWN_METHOD, check_no_other_method, method_of_record

OWN = {
    "plan 'independent'": {},
    "plan 'erm'": {"plan": "erm", "class_balanced": False},
    "plan 'erm', class-balanced": {"plan": "erm"},
    "plan 'resampling'": {"plan": "resampling"},
}


@pytest.mark.parametrize("name", OWN)
def test_a_trainer_and_its_record_name_the_method_alike(tmp_path, name):
    subject = trainer(tmp_path, **OWN[name])
    record = json.loads(json.dumps(subject.run_record().as_json()))
    assert list(subject.method_names()) == [name] == [method_of_record(record)]


def test_baselines_are_told_apart_from_their_plans(tmp_path):
    names = [trainer(tmp_path, cls=SquareRootTrainer, plan="erm").method_names()[0]]
    names.append(trainer(tmp_path, cls=GroupDROTrainer, plan="resampling").method_names()[0])
    assert names == ["SquareRootTrainer with plan 'erm', class-balanced", "GroupDROTrainer with plan 'resampling'"]


@pytest.mark.parametrize("record", [None, {}, {"run": None}, {"run": {"plan": "erm"}}, {"run": []}])
def test_what_is_no_record_is_of_no_known_method(record):
    assert method_of_record(record) == UNKNOWN_METHOD
    with pytest.raises(ValueError, match="nobody knows.* this run trains by plan 'erm'.*hub_overwrite"):
        check_no_other_method(record, ["plan 'erm'"], "me/birds")


def test_the_refusal_names_both(tmp_path):
    record = trainer(tmp_path, plan="erm", class_balanced=False).run_record().as_json()
    check_no_other_method(record, ["plan 'independent'", "plan 'erm'"], "me/birds")
    with pytest.raises(ValueError, match="me/birds .* trained by plan 'erm', and this run trains by plan 'indepen"):
        check_no_other_method(record, ["plan 'independent'"], "me/birds")
