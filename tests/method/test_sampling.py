"""The index stream: frequencies, uniformity inside a group, class counts, determinism, length."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import BatchSampler

from gerne_hf import BatchPlan, GroupIndex, GroupSampler
from gerne_hf.groups.proportions import uniform_target
from gerne_hf.method import sampling
from gerne_hf.method.plans import PLANS

DRAWS = 1_000_000
COUNTS = np.array([[70, 9, 1], [3, 120, 17], [25, 2, 40], [1, 5, 200]])
SKEWED_CLASSES = np.array([0.55, 0.05, 0.1, 0.3])
C, BETA = 0.6, 0.9


def shuffled_groups(counts: np.ndarray, seed: int = 0) -> GroupIndex:
    pairs = [pair for pair in np.ndindex(*counts.shape) for _ in range(counts[pair])]
    labels, attributes = np.random.default_rng(seed).permutation(pairs).T
    return GroupIndex.from_arrays(labels, attributes)


GROUPS = shuffled_groups(COUNTS)


def build(name: str, rows: int, classes=None, groups: GroupIndex = GROUPS) -> BatchPlan:
    return BatchPlan.build(name, rows, groups.alpha, C, BETA, classes, uniform_target(groups.counts))


def draw_segments(plan: BatchPlan, draws: int = DRAWS, seed: int = 0, groups: GroupIndex = GROUPS):
    """Pairs of each segment and its `(batches, rows)` array of drawn row numbers."""
    batches = np.concatenate(list(GroupSampler(groups, plan, num_rows=draws, seed=seed).blocks()))
    assert batches.size >= draws and batches.shape[1] == plan.rows
    return [(segment, batches[:, part]) for segment, part in zip(plan.segments, plan.slices(), strict=True)]


def assert_binomial(successes, trials, probability, what):
    """Within 4 standard errors of the expected number; exact where there is no chance."""
    error = np.sqrt(trials * probability * (1 - probability))
    assert np.all(np.abs(successes - trials * probability) <= 4 * error + 1e-6), what


@pytest.mark.parametrize("classes", [None, SKEWED_CLASSES], ids=["balanced", "skewed"])
@pytest.mark.parametrize(("name", "rows"), [*((name, 32) for name in PLANS), *((name, 7) for name in PLANS)])
def test_group_frequencies(name, rows, classes):
    plan = build(name, rows, classes)
    for segment, drawn in draw_segments(plan):
        found = np.bincount(GROUPS.codes[drawn].ravel(), minlength=COUNTS.size).reshape(COUNTS.shape)
        joint = segment.distribution
        assert (found[joint == 0] == 0).all(), segment.name
        # Classes are allotted systematically: only the fractional part of n p(y) is left to chance.
        per_batch = segment.rows * joint.sum(axis=1)
        assert_binomial(
            found.sum(axis=1) - len(drawn) * np.floor(per_batch + 1e-9),
            len(drawn),
            np.clip(per_batch - np.floor(per_batch + 1e-9), 0, 1),
            f"classes of {segment.name}",
        )
        for label in np.flatnonzero(joint.sum(axis=1) > 0):
            conditional = joint[label] / joint[label].sum()
            assert_binomial(found[label], found[label].sum(), conditional, f"{segment.name}, class {label}")


@pytest.mark.parametrize("name", ["erm", "resampling", "independent"])
def test_rows_are_uniform_inside_a_group(name):
    for segment, drawn in draw_segments(build(name, 24), seed=3):
        hits = np.bincount(drawn.ravel(), minlength=len(GROUPS))
        for label, attribute in np.ndindex(*COUNTS.shape):
            inside = hits[GROUPS.rows(label, attribute)]
            if len(inside) == 1:
                continue
            expected = inside.mean()
            chi_square = ((inside - expected) ** 2 / expected).sum()
            freedom = len(inside) - 1
            # Wilson and Hilferty's normal score of a chi-square value.
            score = ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom))
            assert abs(score) < 4, (segment.name, label, attribute, chi_square, freedom)


@pytest.mark.parametrize("rows", [3, 5, 7, 8, 30, 33, 67])
@pytest.mark.parametrize("classes", [None, SKEWED_CLASSES], ids=["balanced", "skewed"])
@pytest.mark.parametrize("name", PLANS)
def test_class_counts_are_floor_or_ceil(name, rows, classes):
    for segment, drawn in draw_segments(build(name, rows, classes), draws=rows * 500, seed=5):
        expected = segment.rows * segment.distribution.sum(axis=1)
        labels = GROUPS.codes[drawn] // GROUPS.num_attributes
        found = np.stack([(labels == label).sum(axis=1) for label in range(len(COUNTS))], axis=1)
        assert (found >= np.floor(expected + 1e-9)).all() and (found <= np.ceil(expected - 1e-9)).all()
        assert (found.sum(axis=1) == segment.rows).all()


def test_attributes_are_drawn_independently_of_each_other():
    """Rows of one class in one batch: the number with the majority attribute is binomial, not stratified."""
    _, drawn = draw_segments(build("erm", 40))[0]
    majority = (GROUPS.codes[drawn] == 0).sum(axis=1)  # 10 rows of class 0 a batch
    p = GROUPS.alpha[0, 0]
    spread = np.sqrt(2 / len(drawn))  # relative standard error of a variance, about
    assert majority.var() == pytest.approx(10 * p * (1 - p), rel=5 * spread)


def test_batches_smaller_than_the_number_of_groups():
    counts = np.arange(1, 61).reshape(5, 12)
    groups = shuffled_groups(counts)
    ((_, drawn),) = draw_segments(build("resampling", 4, groups=groups), groups=groups)
    assert drawn.shape == (250_000, 4)
    found = np.bincount(groups.codes[drawn].ravel(), minlength=60)
    assert_binomial(found, drawn.size, np.full(60, 1 / 60), "groups")


def test_segments_keep_their_place_in_the_batches_of_a_loader():
    plan = build("shared", 13)
    batches = list(BatchSampler(GroupSampler(GROUPS, plan, num_rows=13 * 200), plan.rows, drop_last=False))
    assert len(batches) == 200
    for segment, part in zip(plan.segments, plan.slices(), strict=True):
        allowed = set(np.flatnonzero(segment.distribution.ravel()))
        seen = set(GROUPS.codes[[row for batch in batches for row in batch[part]]])
        assert seen <= allowed
        assert len(allowed) < COUNTS.size or segment.name == "shared"


@pytest.mark.parametrize("name", PLANS)
def test_the_stream_is_a_function_of_seed_and_epoch(name):
    def stream(seed: int, epoch: int) -> list[int]:
        sampler = GroupSampler(GROUPS, build(name, 9), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    streams = {(seed, epoch): stream(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)}
    for key, value in streams.items():
        assert stream(*key) == value
    for one, other in itertools.combinations(streams.values(), 2):
        assert one != other


def test_one_sampler_over_several_epochs():
    sampler = GroupSampler(GROUPS, build("independent", 10), seed=4)
    first, again = list(sampler), list(sampler)
    assert first == again
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_an_abandoned_iteration_leaves_the_stream_alone():
    sampler = GroupSampler(GROUPS, build("erm", 10))
    whole = list(sampler)
    list(itertools.islice(sampler, 17))
    np.random.default_rng(0).random(100)
    np.random.seed(0)
    assert list(sampler) == whole


def test_blocks_equal_iteration(monkeypatch):
    monkeypatch.setattr(sampling, "_BLOCK_ROWS", 50)
    sampler = GroupSampler(GROUPS, build("independent", 7), num_rows=1000)
    blocks = list(sampler.blocks())
    assert {block.shape for block in blocks} == {(7, 7), (3, 7)}  # 143 batches, 7 a block, 3 in the last
    flat = np.concatenate(blocks).ravel().tolist()
    assert flat == list(sampler) and len(flat) == len(sampler) == 1001
    assert all(type(index) is int for index in sampler)
    assert not any(np.array_equal(one, other) for one, other in itertools.pairwise(blocks[:-1]))


def test_a_batch_larger_than_a_block(monkeypatch):
    monkeypatch.setattr(sampling, "_BLOCK_ROWS", 8)
    blocks = list(GroupSampler(GROUPS, build("independent", 20), num_rows=60).blocks())
    assert [block.shape for block in blocks] == [(1, 20)] * 3


@pytest.mark.parametrize(
    ("num_rows", "rows", "multiple", "batches"),
    [(100, 10, 1, 10), (101, 10, 1, 11), (100, 7, 1, 15), (100, 7, 4, 16), (100, 10, 3, 12), (1, 8, 2, 2)],
)
def test_length_is_rounded_up(num_rows, rows, multiple, batches):
    sampler = GroupSampler(GROUPS, build("independent", rows), num_rows=num_rows, batch_multiple=multiple)
    assert len(sampler) == batches * rows == len(list(sampler))


def test_batches_that_fill_up_the_steps_of_processes_come_after_the_others(monkeypatch):
    monkeypatch.setattr(sampling, "_BLOCK_ROWS", 70)
    alone, of_four = (list(GroupSampler(GROUPS, build("independent", 7), 100, batch_multiple=n)) for n in (1, 4))
    assert len(of_four) == len(alone) + 7 and of_four[: len(alone)] == alone


def test_an_epoch_has_the_rows_of_the_data_set_by_default():
    assert len(GroupSampler(GROUPS, build("erm", 1))) == len(GROUPS) == COUNTS.sum()


def test_drawing_from_an_empty_group_is_refused():
    groups = GroupIndex.from_arrays(["cat", "cat", "dog"], ["in", "out", "in"])
    plan = BatchPlan.build("resampling", 4, groups.alpha)
    with pytest.raises(ValueError, match=r"segment 'balanced' draws from groups without rows: \(dog, out\)"):
        GroupSampler(groups, plan)


@pytest.mark.parametrize("name", PLANS)
def test_empty_groups_left_out_of_the_target_are_never_drawn(name):
    counts = COUNTS.copy()
    counts[0, 0] = counts[1, 1] = counts[2, 2] = counts[3, 1] = 0
    groups = shuffled_groups(counts)
    for _, drawn in draw_segments(build(name, 11, groups=groups), draws=100_000, groups=groups):
        assert drawn.min() >= 0 and drawn.max() < len(groups)


@pytest.mark.parametrize("point", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("name", PLANS)
def test_the_ends_of_the_unit_interval_draw_no_group_without_mass(monkeypatch, name, point):
    counts = np.array([[0, 5, 0, 7], [4, 0, 2, 0], [3, 1, 0, 0]])
    groups = shuffled_groups(counts)
    plan = build(name, 63, groups=groups)
    constant = SimpleNamespace(random=lambda shape: np.full(shape, point))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: constant)
    for segment, drawn in draw_segments(plan, draws=126, groups=groups):
        codes = groups.codes[drawn]
        assert (segment.distribution.ravel()[codes] > 0).all()
        for group in np.unique(codes):
            rows = groups.rows(*divmod(int(group), 4))
            assert (drawn[codes == group] == rows[0 if point == 0 else -1]).all()


def test_every_row_of_a_large_group_can_be_drawn():
    groups = shuffled_groups(np.array([[3000, 1], [1, 3000]]))
    ((_, drawn),) = draw_segments(build("erm", 50, groups=groups), draws=100_000, groups=groups)
    assert set(drawn.ravel()) == set(range(len(groups)))
