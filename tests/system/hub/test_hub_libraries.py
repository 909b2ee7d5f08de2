"""The other libraries that load from the Hub get along with the loopback Hub, unmodified."""

import pytest


def test_datasets(client):
    """Parquet with features and splits up, and back by id in a new process; a commit that came too late is told."""
    hub = client.hub
    stale = hub.fault(r"^/api/datasets/tester/birds/commit/", 412)
    client(
        """
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    names = ClassLabel(names=["land", "water"])
    features = Features({"text": Value("string"), "label": names, "place": Value("int8")})
    rows = {"text": ["a", "b", "c"], "label": [0, 1, 1], "place": [1, 0, 1]}
    data = Dataset.from_dict(rows, features=features)
    both = DatasetDict({"train": data, "validation": data.select([2])})
    try:
        both.push_to_hub("tester/birds")
    except Exception as error:
        assert error.response.status_code == 412
        both.push_to_hub("tester/birds")
    """
    )
    assert stale.hits == 1 and {"README.md", "data/train-00000-of-00001.parquet"} <= set(
        hub.files("tester/birds", "dataset")
    )
    done = client(
        """
    import json
    from datasets import load_dataset
    data = load_dataset("tester/birds")
    labels = data["train"].features["label"].names
    print(json.dumps([{k: v.num_rows for k, v in data.items()}, labels, data["train"][:], data["validation"][0]]))
    """
    ).result
    assert done[0] == {"train": 3, "validation": 1} and done[1] == ["land", "water"]
    assert done[2] == {"text": ["a", "b", "c"], "label": [0, 1, 1], "place": [1, 0, 1]}
    assert done[3] == {"text": "c", "label": 1, "place": 1}


@pytest.mark.slow
def test_timm(client):
    done = client(
        """
    import json, timm, torch
    model = timm.create_model("test_vit", num_classes=3).eval()
    timm.models.push_to_hf_hub(model, "tester/vit", model_config={"label_names": ["a", "b", "c"]})
    back = timm.create_model("hf-hub:tester/vit", pretrained=True).eval()
    images = torch.rand(2, 3, 160, 160)
    print(json.dumps(bool(torch.equal(model(images), back(images)))))
    """
    ).result
    assert done is True
    assert {"config.json", "model.safetensors"} <= set(client.hub.files("tester/vit"))
