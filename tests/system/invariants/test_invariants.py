"""What must come out the same whichever way it is computed: accumulation, parity with Trainer, resume."""

import math

import numpy as np
import pytest
import torch
from helpers import (
    EVEN,
    SKEWED,
    Gradients,
    assert_same,
    bert,
    config,
    first_batch,
    mlp,
    own_loader,
    sentences,
    step_gradient,
    table,
    trainer,
    watch_batches,
    weights,
)
from transformers import Trainer, TrainingArguments

from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64


def make(kind):
    return (mlp(dtype=DOUBLE), table()) if kind == "mlp" else (bert(dtype=DOUBLE), sentences())


def joined(batches, plan):
    """One batch of the rows of several: all their biased rows, then all their less biased rows."""
    parts = [{key: value[rows] for key, value in batch.items()} for rows in plan.slices() for batch in batches]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


# ---- gradient accumulation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", ["independent", "erm"])
@pytest.mark.parametrize("kind", ["mlp", "bert"])
def test_accumulation_gives_the_gradient_of_one_large_batch(tmp_path, kind, plan, mode):
    """BERT's forward takes **kwargs, and the stock Trainer would make this gradient 4 times too large."""
    model, data = make(kind)
    gradients = Gradients()
    settings = dict(plan=plan, forward_mode=mode, max_grad_norm=0.0, learning_rate=0.0, weight_decay=0.0)
    accumulate = dict(per_device_train_batch_size=6, gradient_accumulation_steps=4, max_steps=2)
    subject = trainer(tmp_path, model, data, callbacks=[gradients], **accumulate, **settings)
    batches = watch_batches(subject)
    subject.train()
    assert len(batches) == 8 and len(gradients.steps) == 2
    large = trainer(tmp_path, model, data, per_device_train_batch_size=24, **settings)
    first_batch(large)
    for step, gradient in enumerate(gradients.steps):
        batch = joined(batches[4 * step : 4 * step + 4], subject.plan)
        assert_same(gradient, step_gradient(large, batch), 1e-10)


def test_a_shorter_last_accumulation_is_a_mean_too(tmp_path):
    model, data = make("mlp")
    gradients = Gradients()
    settings = dict(max_grad_norm=0.0, learning_rate=0.0, forward_mode="fused")
    accumulate = dict(per_device_train_batch_size=16, gradient_accumulation_steps=4, num_train_epochs=1, max_steps=-1)
    subject = trainer(tmp_path, model, data, callbacks=[gradients], **accumulate, **settings)
    batches = watch_batches(subject)
    subject.train()
    assert len(batches) == 6 and len(gradients.steps) == 2  # 88 rows: 6 batches, 4 and 2
    single = [step_gradient(subject, batch) for batch in batches[4:]]
    mean = {name: (single[0][name] + single[1][name]) / 2 for name in single[0]}
    assert_same(gradients.steps[1], mean, 1e-10)


@pytest.mark.parametrize("kind", ["mlp", "bert"])
def test_the_logged_loss_is_a_mean_over_accumulation(tmp_path, kind):
    model, data = make(kind)
    subject = trainer(tmp_path, model, data, gradient_accumulation_steps=3, max_steps=2, learning_rate=0.0)
    subject.train()
    for entry in subject.state.log_history[:2]:
        assert entry["loss"] == pytest.approx(entry["loss_extrapolated"], abs=1e-5)
        assert 0.3 < entry["loss_biased"] < 2


def test_fused_and_separate_train_to_the_same_weights(tmp_path):
    finals = []
    for mode in ("fused", "separate"):
        model, data = make("bert")
        trainer(tmp_path, model, data, forward_mode=mode, max_steps=8).train()
        finals.append(weights(model))
    assert_same(*finals, 1e-10)


# ---- parity with the stock Trainer --------------------------------------------------------------------------------


def stock(output_dir, model, data, **settings):
    mine = config(output_dir, attribute_column=None, plan="erm", **settings)
    names = set(TrainingArguments.__dataclass_fields__) - {"train_batch_size", "eval_batch_size"}
    shared = ("per_device_train_batch_size", "max_steps", "learning_rate", "optim", "seed", "lr_scheduler_type")
    plain = TrainingArguments(
        output_dir=str(output_dir),
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        **{name: getattr(mine, name) for name in shared if name in names},
    )
    return Trainer(model=model, args=plain, train_dataset=data)


@pytest.mark.parametrize("kind", ["mlp", "bert"])
def test_erm_takes_the_stock_trainers_gradient(tmp_path, kind):
    model, data = make(kind)
    subject = trainer(tmp_path, model, data, plan="erm")
    batch = first_batch(subject)
    mine = step_gradient(subject, batch)
    plain = {key: value for key, value in batch.items() if key != GROUP_KEY}
    assert_same(mine, step_gradient(stock(tmp_path, model, data), plain), 1e-10)


def test_erm_on_balanced_data_trains_like_the_stock_trainer(tmp_path):
    train, held_out = table([[60], [60]], seed=1), table([[200], [200]], seed=2)
    losses = {"gerne": [], "stock": []}
    for seed in range(5):
        settings = dict(per_device_train_batch_size=12, max_steps=60, learning_rate=0.2, seed=seed)
        for name in losses:
            model = mlp(0)
            if name == "gerne":
                trainer(
                    tmp_path, model, train, plan="erm", attribute_column=None, logging_steps=60, **settings
                ).train()
            else:
                stock(tmp_path, model, train, **settings).train()
            with torch.no_grad():
                logits = model(torch.tensor(held_out["inputs"][:])).logits
            losses[name].append(torch.nn.functional.cross_entropy(logits, torch.tensor(held_out["label"][:])).item())
    means = {name: np.mean(values) for name, values in losses.items()}
    noise = math.sqrt(sum(np.var(values, ddof=1) / len(values) for values in losses.values()))
    assert max(means.values()) < 0.55 < math.log(2)  # both learned
    assert abs(means["gerne"] - means["stock"]) < 4 * noise


# ---- beta = 0, c = 1 is resampling --------------------------------------------------------------------------------


def test_no_extrapolation_and_full_reduction_is_resampling(tmp_path):
    settings = dict(per_device_train_batch_size=12, beta=0.0, c=1.0)
    both = trainer(tmp_path, mlp(dtype=DOUBLE), **settings)
    resampling = trainer(tmp_path, mlp(dtype=DOUBLE), plan="resampling")
    assert np.allclose(both.plan.expected_weights(), resampling.plan.expected_weights(), atol=1e-12)

    # The biased half has no part in the gradient ...
    batch = first_batch(both)
    swapped = {key: value.clone() for key, value in batch.items()}
    swapped["inputs"][:6] = 100.0
    assert_same(step_gradient(both, batch), step_gradient(both, swapped))

    # ... and the other half is drawn as resampling draws.
    drawn = {}
    for name, subject, rows in (("both", both, slice(6, 12)), ("resampling", resampling, slice(None))):
        loader, counts = own_loader(subject), np.zeros(4)
        for epoch in range(60):
            loader.set_epoch(epoch)
            for batch in loader:
                counts += np.bincount(batch[GROUP_KEY][rows].numpy(), minlength=4)
        drawn[name] = counts / counts.sum(), counts.sum()
    for share, total in drawn.values():
        assert (np.abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / total)).all()


def test_beta_minus_one_is_class_balanced_erm(tmp_path):
    both = trainer(tmp_path, mlp(dtype=DOUBLE), beta=-1.0, per_device_train_batch_size=12)
    erm = trainer(tmp_path, both.model, plan="erm", per_device_train_batch_size=6)
    batch = first_batch(both)
    first_batch(erm)
    half = {key: value[:6] for key, value in batch.items()}
    assert_same(step_gradient(both, batch), step_gradient(erm, half), 1e-10)


def test_the_mean_gradient_over_draws_is_that_of_the_groups(tmp_path):
    """Eq. 10: L_ext is in expectation the groups' mean losses weighted by p_ext."""
    model = mlp(dtype=DOUBLE)
    subject = trainer(tmp_path, model, beta=1.5, per_device_train_batch_size=16)
    loader, draws = own_loader(subject), []
    for epoch in range(12):
        loader.set_epoch(epoch)
        for batch in loader:
            gradient = step_gradient(subject, batch)
            draws.append(torch.cat([value.ravel() for value in gradient.values()]))
    draws = torch.stack(draws)
    data = table().with_format("torch")
    losses = torch.nn.functional.cross_entropy(model(data["inputs"][:]).logits, data["label"][:], reduction="none")
    alpha = np.array(SKEWED) / np.sum(SKEWED, axis=1, keepdims=True)
    p_ext = (alpha + 0.5 * 2.5 * (0.5 - alpha)) / 2
    groups = 2 * data["label"][:] + data["place"][:]
    total = sum(p_ext.ravel()[g] * losses[groups == g].mean() for g in range(4))
    expected = torch.cat([g.ravel() for g in torch.autograd.grad(total, list(model.parameters()))])
    error = draws.std(dim=0) / math.sqrt(len(draws))
    assert ((draws.mean(dim=0) - expected).abs() <= 4 * error + 1e-12).all()


# ---- resume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [4, 16])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, workers, step):
    """11 steps an epoch: the checkpoints lie inside the first and the second of two epochs. Dropout is on, so that
    the random state counts too."""
    settings = dict(num_train_epochs=2, max_steps=-1, optim="adamw_torch", learning_rate=0.01, logging_steps=50)
    settings |= dict(save_strategy="steps", save_steps=4, dataloader_num_workers=workers)
    whole = trainer(tmp_path, mlp(dropout=0.3), **settings)
    whole_batches = watch_batches(whole)
    whole.train()
    assert whole.state.global_step == 22
    torch.manual_seed(123)
    resumed = trainer(tmp_path, mlp(seed=9, dropout=0.3), **settings)
    batches = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert [batch["row"].tolist() for batch in batches] == [b["row"].tolist() for b in whole_batches[step:]]
    assert_same(weights(resumed.model), weights(whole.model))
    assert whole_batches[0]["row"].tolist() != whole_batches[11]["row"].tolist()  # epochs differ


def test_two_runs_are_equal_and_seeds_are_not(tmp_path):
    rows = []
    for seed in (1, 1, 2):
        subject = trainer(tmp_path, train=table(EVEN), seed=seed, max_steps=3)
        batches = watch_batches(subject)
        subject.train()
        rows.append(torch.cat([batch["row"] for batch in batches]).tolist())
    assert rows[0] == rows[1] != rows[2]
