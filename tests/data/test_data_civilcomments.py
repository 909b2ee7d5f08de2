"""CivilComments: the two copies, groupings, overlapping groups in metrics and in a trainer, the demo."""

import importlib.util
import sys

import datasets
import numpy as np
import pytest
from places import ROOT

from gerne_hf import GerneTrainer, GroupIndex, group_metrics
from gerne_hf.data.civilcomments import IDENTITIES, LABELS, demo_civilcomments, load_civilcomments
from gerne_hf.evaluation.overlapping import combination_memberships

SPLITS = {"train": 24, "val": 16, "test": 20}
OTHERS = ("severe_toxicity", "transgender", "jewish", "asian", "identity_any")
TEXT, NUMBER = datasets.Value("string"), datasets.Value("float64")
FEATURES = datasets.Features(
    {
        "id": datasets.Value("int64"),
        "comment_text": TEXT,
        "split": TEXT,
        "created_date": TEXT,
        "publication_id": datasets.Value("int64"),
        "rating": TEXT,
        "toxicity": NUMBER,
        **{name: NUMBER for name in (*OTHERS, *IDENTITIES)},
    }
)


def mentioned(i):
    """The identities of row i: those of its bits, so that some rows have none and some several."""
    return [name for k, name in enumerate(IDENTITIES) if i % 4 != 3 and (i * 37 >> k) & 1]


def miniature():
    """One table in the schema of the WILDS file; a row's text tells its number, odd rows are toxic."""
    split = [name for name, rows in SPLITS.items() for _ in range(rows)]
    order = np.random.default_rng(0).permutation(len(split))
    table = {name: ["x"] * len(split) for name, kind in FEATURES.items() if kind == TEXT}
    table |= {name: [0.7] * len(split) for name in OTHERS}
    table |= {"id": order.tolist(), "publication_id": [1] * len(split), "split": [split[i] for i in order]}
    table["comment_text"] = [f"comment {i}" if i else None for i in order]
    table["toxicity"] = [0.5 if i % 2 else 0.4999 for i in order]
    for name in IDENTITIES:  # nobody was asked about the identities of every tenth row
        table[name] = [None if i % 10 == 9 else 0.5 if name in mentioned(i) else 0.4 for i in order]
    return datasets.Dataset.from_dict(table, features=FEATURES)


def number(row):
    return int(row["comment_text"].removeprefix("comment ") or 0)


def expected(i):
    return [] if i % 10 == 9 else mentioned(i)


pytestmark = pytest.mark.usefixtures("own_cache")


def store(folder, kind):
    """A copy of the data set; what to load."""
    folder.mkdir()
    if kind == "csv":  # beside a loading script, as on the Hub
        (folder / "civil-comments-wilds.py").write_text("raise SystemExit")
        miniature().to_csv(folder / "all_data_with_identities.csv")
    elif kind == "file":
        miniature().to_csv(folder / "mine.csv")
        return str(folder / "mine.csv")
    elif kind == "parquet":
        (folder / "raw").mkdir()
        miniature().to_parquet(folder / "raw" / "train-00000-of-00001.parquet")
    else:
        rows = miniature()
        for name in SPLITS:
            part = rows.filter(lambda row, name=name: row["split"] == name).remove_columns("split")
            part.to_parquet(folder / f"{name}.parquet")
    return str(folder)


@pytest.mark.parametrize("kind", ["csv", "file", "parquet", "splits"])
def test_the_copies_of_the_data_set(tmp_path, kind):
    data, counts = load_civilcomments(store(tmp_path / "data", kind), "any")
    assert {key: len(split) for key, split in data.items()} == {"train": 24, "validation": 16, "test": 20}
    seen = []
    for split in data.values():
        assert split.features["label"].names == LABELS
        for row in split:
            i = number(row)
            seen.append(i)
            assert row["label"] == i % 2
            assert [name for name in IDENTITIES if row[name]] == expected(i)
            assert row["identity"] == bool(expected(i))
    assert sorted(seen) == list(range(60))
    for y in (0, 1):
        for k, name in enumerate(IDENTITIES):
            assert counts[y, k] == sum(name in expected(i) for i in range(24) if i % 2 == y)


def test_a_row_for_each_mentioned_identity():
    data, counts = load_civilcomments(datasets.DatasetDict(train=miniature()), "each")
    wanted = sorted((i, name) for i in range(24) for name in expected(i))
    assert sorted((number(row), IDENTITIES[row["identity"]]) for row in data["train"]) == wanted
    groups = GroupIndex.from_dataset(data["train"], "label", "identity")
    assert groups.attribute_names == IDENTITIES and (groups.counts == counts).all()
    assert [len(data[key]) for key in ("validation", "test")] == [16, 20]  # rows without one are judged too


def test_a_single_identity():
    data, _ = load_civilcomments(datasets.DatasetDict(train=miniature()), "muslim")
    assert data["train"].features["identity"].names == ["not muslim", "muslim"]
    for split in data.values():
        assert all(row["identity"] == ("muslim" in expected(number(row))) for row in split)


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_another_grouping_is_refused():
    with pytest.raises(ValueError, match="grouping must be one of any, each, male, .*white; found 'jewish'"):
        load_civilcomments(datasets.DatasetDict(train=miniature()), "jewish")


def test_a_copy_without_identities_is_refused_with_the_columns():
    raw = miniature().remove_columns(list(IDENTITIES))
    with pytest.raises(ValueError, match="lacks the columns male, female, .*: it has comment_text, split, "):
        load_civilcomments(datasets.DatasetDict(train=raw))


def test_a_missing_split_is_named():
    raw = miniature().filter(lambda row: row["split"] != "val")
    with pytest.raises(ValueError, match="no rows whose column 'split' is val; it holds test, train"):
        load_civilcomments(datasets.DatasetDict(train=raw))


# ---- in a trainer -------------------------------------------------------------------------------------------------


def test_combinations_of_columns():
    data = datasets.Dataset.from_dict({"label": [0, 1, 0], "a": [True, True, True], "b": [False, True, True]})
    index = GroupIndex.from_dataset(data, "label", ["a", "b"])
    members = combination_memberships(index)[index.codes % index.num_attributes]
    assert members.tolist() == [[True, False], [True, True], [True, True]]
    with pytest.raises(ValueError, match="must hold booleans; found x"):
        combination_memberships(GroupIndex.from_dataset(data.add_column("c", ["x"] * 3), "label", ["a", "c"]))


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "civilcomments.py"
    spec = importlib.util.spec_from_file_location("civilcomments_recipe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run(recipe, monkeypatch, output, *more):
    """The demo in small: every trainer that it made, and its results."""
    monkeypatch.setattr(recipe, "demo_civilcomments", lambda: demo_civilcomments(400, 100, 150))
    trainers, original = [], GerneTrainer.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        trainers.append(self)

    monkeypatch.setattr(GerneTrainer, "__init__", remember)
    arguments = ["--demo", "--output_dir", str(output), "--max_steps", "4", "--eval_strategy", "steps"]
    arguments += ["--eval_steps", "2", "--use_cpu", "--beta_out_of_bounds", "ignore", "--empty_groups", "ignore"]
    results = recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, [*arguments, *more]))
    return trainers, results


@pytest.mark.parametrize("grouping", ["each", "any", "black"])
def test_the_sixteen_groups_are_judged_whatever_training_is_grouped_by(
    recipe, grouping, tmp_path, monkeypatch, without_pictures
):
    made, results = run(recipe, monkeypatch, tmp_path / "out", "--grouping", grouping, "--compare", "none")
    data, counts = load_civilcomments(demo_civilcomments(400, 100, 150), grouping)
    groups = results["GERNE"][0]["groups"]
    assert [(g["label"], g["attribute"]) for g in groups] == [(y, name) for y in LABELS for name in IDENTITIES]
    assert [g["train_count"] for g in groups] == counts.ravel().tolist()
    for group in groups:
        rows = [r for r in data["test"] if r[group["attribute"]] and LABELS[r["label"]] == group["label"]]
        assert group["count"] == len(rows)
    assert made and all(type(trainer) is GerneTrainer for trainer in made)
    assert all(trainer.args.overlapping_columns == list(IDENTITIES) for trainer in made)
    logged = set(results["GERNE"][0]["validation"])
    assert {"worst_group_accuracy", "group_balanced_accuracy"} <= logged and "adjusted_accuracy" not in logged


def test_the_baselines_are_judged_on_the_same_groups(recipe, tmp_path, monkeypatch, without_pictures):
    more = ("--compare", "erm,group_dro,jtt,dfr,pseudo", "--threshold", "0.2")
    _, results = run(recipe, monkeypatch, tmp_path / "out", *more)
    assert list(results) == ["ERM", "Group DRO", "JTT", "DFR", "class-balanced", "GERNE, unknown attributes", "GERNE"]
    assert all(len(runs[0]["groups"]) == 16 for runs in results.values())


def test_figures_of_a_trainer_are_those_of_its_predictions(tmp_path, without_pictures):
    """In any order of rows, and with every figure in the metrics under the usual names."""
    import torch
    from torch.utils.data import RandomSampler

    from gerne_hf import GerneConfig
    from gerne_hf.models.mlp import MLPConfig, MLPForImageClassification

    rng = np.random.default_rng(0)
    members, labels = rng.random((50, 3)) < 0.4, rng.integers(0, 2, 50)
    table = {name: members[:, k].tolist() for k, name in enumerate("abc")}
    table |= {"label": labels.tolist(), "pixel_values": rng.normal(size=(50, 1, 2, 2)).tolist()}
    data = datasets.Dataset.from_dict(table).with_format("torch")

    class Shuffled(GerneTrainer):
        def _get_eval_sampler(self, dataset):
            return RandomSampler(dataset)

    torch.manual_seed(0)
    model = MLPForImageClassification(MLPConfig(image_size=2, num_channels=1, hidden_sizes=[4]))
    config = GerneConfig(str(tmp_path), plan="erm", report_to="none", use_cpu=True, per_device_eval_batch_size=7)
    config.overlapping_columns = list("abc")
    trainer = Shuffled(model, config, eval_dataset=data)
    metrics = trainer.evaluate()
    with torch.no_grad():
        scores = model(data["pixel_values"][:]).logits.numpy()
    result = group_metrics(scores, labels, members, attribute_names="abc")
    assert metrics["eval_worst_group_accuracy"] == pytest.approx(result["worst_group_accuracy"])
    for group in result["groups"]:
        name = f"eval_group_accuracy/{group['label']}|{group['attribute']}"
        assert metrics[name] == pytest.approx(group["accuracy"])
    assert sum("group_accuracy/" in key for key in metrics) == 6
    with pytest.raises(ValueError, match="has no attribute column 'c'; its columns are"):
        trainer.evaluate(data.remove_columns("c"))


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_ties_identities_to_tone_in_training_only():
    data, counts = load_civilcomments(demo_civilcomments(), "each")
    shares = counts[1] / counts.sum(axis=0)
    tied = np.array([name in ("LGBTQ", "muslim", "black", "white") for name in IDENTITIES])
    assert (shares[tied] > 0.85).all() and (shares[~tied] < 0.15).all() and counts.min() >= 5
    members = np.stack([data["test"][name][:] for name in IDENTITIES], axis=1)
    labels = np.array(data["test"]["label"][:])
    assert (abs(members[labels == 1].sum(axis=0) / members.sum(axis=0) - 0.5) < 0.1).all()
    assert 0.1 < (members.sum(axis=1) == 0).mean() < 0.3 and (members.sum(axis=1) == 2).mean() > 0.05


def test_a_seed_stands_for_its_demo():
    first, again, other = demo_civilcomments(9, 9, 9), demo_civilcomments(9, 9, 9), demo_civilcomments(9, 9, 9, seed=1)
    assert first["train"].to_dict() == again["train"].to_dict() != other["train"].to_dict()
