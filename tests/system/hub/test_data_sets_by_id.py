"""Each loader against a miniature of its data set on the loopback Hub, by the id that it has on the real one."""

import pytest

EXPECTED = {  # rows of train, validation and test; first names of classes and attributes; columns that are needed
    "multinli": ([50, 20, 30], ["entailment", "no negation"], "premise, hypothesis, label"),
    "waterbirds": ([14, 5, 6], ["landbird", "land"], "image, label, place"),
    "celeba": ([12, 5, 6], ["not blond hair", "female"], "image, Blond_Hair, Male"),
    "civilcomments": ([24, 16, 20], ["non-toxic", "no identity"], "comment_text, toxicity, male, female, LGBTQ"),
    "civilcomments_parquet": ([24, 16, 20], ["non-toxic", "no identity"], "comment_text, toxicity, male, female"),
    "colored_mnist": ([540, 60, 100], ["0", "blue"], "image, label"),
    "corrupted_cifar10": ([200, 30, 100], ["airplane", None], "img, label"),
    "text": ([60, 12, 18], ["calm", "bread & salt"], "comment, mood"),
    "image": ([60, 12, 18], ["cat", "barn"], "picture, kind"),
}


@pytest.fixture(scope="module")
def loaded(exchanged):
    return exchanged.loaded["hub_data_sets"]


@pytest.mark.parametrize("name", EXPECTED)
def test_by_its_id(loaded, name):
    rows, first, _ = EXPECTED[name]
    found = loaded[name]["hub"]
    assert found["rows"] == dict(zip(("train", "validation", "test"), rows, strict=True))
    assert found["names"][0][0] == first[0] and first[1] in (None, found["names"][1][0])
    assert found == loaded[name]["local"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_rows_tell_the_data_set_and_the_commit_that_they_come_from(loaded, name):
    """For the model card. `datasets` forgets it for files that are loaded by name, as the CSV of CivilComments."""
    commit = None if name == "civilcomments" else loaded[name]["commit"]
    assert loaded[name]["origins"] == [commit] * 3 + [None] * 3


@pytest.mark.parametrize("name", EXPECTED)
def test_another_schema_is_refused_with_the_columns_found_and_needed(loaded, name):
    told = loaded[name]["other"]
    assert told.startswith("ValueError: somebody/other")
    assert "lacks the columns" in told and "it has caption, weight" in told
    way_out = "Name others with --text_column" if name in ("text", "image") else "Pass another --dataset_name"
    assert f", and {EXPECTED[name][2]}" in told and f" are needed. {way_out}" in told


def test_a_data_set_that_is_on_no_hub(loaded):
    assert loaded["bffhq"].startswith("FileNotFoundError: no images in somebody/bffhq/0.5pct: somebody/bffhq does not")
    assert "No copy of bFFHQ on the Hub is known" in loaded["bffhq"]
