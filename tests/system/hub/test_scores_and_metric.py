"""What is pushed besides models, pseudo-attributes as a data set and the metric as a Space: there and back, what is
refused, faults."""

import json
import sys
from pathlib import Path

import pytest
from endpoints import READ_TOKEN, WRITE_TOKEN
from huggingface_hub import DatasetCard

from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH


@pytest.fixture(scope="module")
def pushed(exchanged):
    return exchanged.pushed["hub_scores"]


@pytest.fixture(scope="module")
def back(exchanged):
    return exchanged.loaded["hub_scores"]


def test_there_and_back(pushed, back):
    assert back["equal"] == [[True, True]] * 6
    assert back["hard"] == pushed["hard"] and [len(rows) for rows in back["hard"]] == [5, 16, 30]
    names, mark, directory, record = back["rest"]
    assert names == ["land", "water"] and mark is True and directory is None
    assert record["columns"] == ["label", "text"] and record["settings"] == {"biased_model": None, "seed": 0}


def test_it_loads_as_any_data_set(back):
    classes, parts = ["land", "water"], ["hard", "easy"]
    columns = {"label": classes, "prediction": classes, "score": "Value('float32')"}
    assert back["features"] == {**columns, "pseudo_attribute_0.1": parts, "pseudo_attribute_0.29": parts}
    assert len(back["rows"]["score"]) == 3


def test_one_commit_and_no_trace_of_this_machine(exchanged, pushed):
    hub = exchanged.hub
    files = hub.files("tester/scores", "dataset")
    assert set(files) == {"README.md", "scores.parquet", "pseudo_attributes.json"}
    assert [commit.title for commit in hub.repository("tester/scores", "dataset").history()][0] == "Pseudo-attributes"
    assert len(hub.repository("tester/scores", "dataset").history()) == 2
    assert not [
        path for path, blob in files.items() if b"/home/me" in blob.content or WRITE_TOKEN.encode() in blob.content
    ]
    assert (
        hub.repository("tester/scores-alone", "dataset").private
        and not hub.repository("tester/scores", "dataset").private
    )


def test_the_card(exchanged, pushed):
    text = exchanged.hub.files("tester/scores", "dataset")["README.md"].content.decode()
    card = DatasetCard(text)
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "scores.parquet"}]}
    ]
    assert {"gerne", "pseudo-attributes"} <= set(card.data.tags)
    record = json.loads(exchanged.hub.files("tester/scores", "dataset")["pseudo_attributes.json"].content)
    for part in (
        *("`label`", "`prediction`", "`score`", "`pseudo_attribute_0.1`", "`pseudo_attribute_0.29`"),
        *(record["fingerprint"], "hard at t = 0.29", "BertForSequenceClassification", "`acme/tiny-bert`", "75.0 %"),
        *("60 rows", 'PseudoAttributes.from_hub("tester/scores", train_dataset)', 'load_dataset("tester/scores"'),
    ):
        assert part in text
    alone = exchanged.hub.files("tester/scores-alone", "dataset")["README.md"].content.decode()
    assert "pseudo_attribute_" not in alone and 'from_hub("tester/scores-alone"' in alone


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_a_bad_threshold_is_refused_before_anything_is_made(exchanged, pushed):
    assert pushed["threshold"].startswith("ValueError\nthreshold 0.001 makes 0 of the")
    assert "smallest threshold that works" in pushed["threshold"]
    assert ("dataset", "tester/unmade") not in exchanged.hub.repositories


def test_other_data_is_not_overwritten(exchanged, pushed):
    assert "the data set tester/training-set on the Hub holds data/train-00000-of-00001.parquet" in pushed["other"]
    assert "is no pseudo-attributes; nothing was changed. Choose another id" in pushed["other"]
    files = exchanged.hub.files("tester/training-set", "dataset")
    assert set(files) == {"README.md", "data/train-00000-of-00001.parquet"}


@pytest.mark.parametrize("who, status", [("read", 403), ("wrong", 401), ("foreign", 403)])
def test_no_rights(pushed, who, status):
    assert str(status) in pushed[who] and "cannot be made or written to" in pushed[who]
    assert "set HF_TOKEN, or run `hf auth login`" in pushed[who]
    assert READ_TOKEN not in pushed[who]


def test_a_failed_push_says_where_the_scores_are(exchanged, pushed):
    assert "500" in pushed["fault"] and "The push to tester/fault failed; the scores are in memory" in pushed["fault"]
    assert "save(FOLDER) keeps them. Push again by the same call" in pushed["fault"]
    assert "a fault of its own" in pushed["fault"] and "write access" not in pushed["fault"]
    assert "the scores are kept in kept. Push again" in pushed["kept"]
    assert "scores.parquet" in exchanged.hub.files("tester/fault", "dataset")


def test_another_training_set_is_refused(back):
    assert "these scores belong to another data set: its fingerprint is" in back["other rows"]
    assert "there are scores of 60 rows, and the data set has 50" in back["unlabelled"]


def test_what_is_no_data_set_of_scores(back):
    assert back["type"].startswith("RepositoryNotFoundError")
    assert "There is no data set tester/model; tester/model is a model and a Space. Pass the id" in back["type"]
    assert "There is no data set tester/nothing, or the token may not read it." in back["nothing"]
    assert "the data set tester/training-set holds no pseudo-attributes: there are" in back["contents"]
    assert "data/train-00000-of-00001.parquet, and scores.parquet and pseudo_attributes.json are" in back["contents"]


def test_a_model_of_the_same_name_is_left_alone(exchanged, back):
    assert back["beside"] is None
    assert set(exchanged.hub.files("tester/beside")) == {"config.json"}
    assert "scores.parquet" in exchanged.hub.files("tester/beside", "dataset")


# ---- the metric -----------------------------------------------------------------------------------------------------


def test_the_metric_loads_by_its_id(exchanged, back):
    by_id, by_path = back["metric"]
    assert by_id == by_path
    assert by_id["accuracy"] == pytest.approx(2 / 3) and by_id["worst_group_accuracy"] == 0.0
    pushed_files = {path: blob.content for path, blob in exchanged.hub.files("tester/group_accuracy", "space").items()}
    here = {path.name: path.read_bytes() for path in Path(GROUP_ACCURACY_PATH).iterdir() if path.is_file()}
    assert pushed_files == here and "group_accuracy.py" in here
    assert exchanged.hub.repository("tester/group_accuracy", "space").sdk == "gradio"


def test_what_the_metric_says_is_refused(exchanged, pushed):
    told = pushed["metric"]
    assert "the Space must be called OWNER/group_accuracy: evaluate looks for a script" in told["name"]
    assert "found 'tester/accuracy'" in told["name"]
    assert "the Space acme/group_accuracy on the Hub is made for docker, which is no metric" in told["sdk"]
    assert "the Space reader/group_accuracy on the Hub holds app.py, which is no metric group_acc" in told["files"]
    assert "nothing was changed. Choose another id" in told["sdk"] and not exchanged.hub.files(
        "acme/group_accuracy", "space"
    )
    assert set(exchanged.hub.files("reader/group_accuracy", "space")) == {"app.py"}
    assert "403" in told["read"] and "The Space 'tester/group_accuracy' cannot be made or written to" in told["read"]
    assert "500" in told["fault"] and "The push to the Space tester/group_accuracy failed. Push again" in told["fault"]
    assert told["command"] is None and told["again"] is None


@pytest.mark.slow
def test_no_token(client):
    code = """
    import json
    from hub_scores import scored, told, training_set
    print(json.dumps(told(scored(training_set()).push_to_hub, "tester/scores", 0.1)))
    """
    told = client(code, token=None).result
    assert "401" in told and "set HF_TOKEN, or run `hf auth login`" in told


@pytest.mark.slow
def test_the_command(client):
    command = [sys.executable, "-m", "gerne_hf.evaluate_modules", "push", "tester/group_accuracy", "--private"]
    assert 'evaluate.load("tester/group_accuracy", module_type="metric")' in client.run(command).stdout
    assert client.hub.repository("tester/group_accuracy", "space").private
