"""The plan of a group-weighted loss: every row once an epoch, with the gradient of the losses times N / (G n_g)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same, mlp, own_loader, step_gradient, table, trainer, watch_batches

from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[40, 8], [10, 30]]


@pytest.mark.parametrize("class_balanced", [True, False])
def test_an_epoch_is_every_row_once(tmp_path, class_balanced):
    settings = dict(plan="group_weighted_loss", class_balanced=class_balanced, max_steps=-1, num_train_epochs=2)
    subject = trainer(tmp_path, train=table(COUNTS), **settings)
    batches = watch_batches(subject)
    subject.train()
    rows = [row for batch in batches for row in batch["row"].tolist()]
    assert sorted(rows[:88]) == sorted(rows[88:]) == list(range(88)) and rows[:88] != rows[88:]
    erm = trainer(tmp_path, train=table(COUNTS), plan="erm", class_balanced=False, max_steps=-1, num_train_epochs=2)
    assert [row for batch in own_loader(erm) for row in batch["row"].tolist()] == rows[:88]


def test_the_gradient_is_that_of_the_weighted_loss_also_of_the_last_shorter_batch(tmp_path):
    model = mlp(dtype=torch.float64)
    subject = trainer(tmp_path, model, table(COUNTS), plan="group_weighted_loss", per_device_train_batch_size=20)
    weights = torch.from_numpy(88 / (4 * np.ravel(COUNTS)))
    sizes = []
    for batch in list(own_loader(subject)):
        losses = F.cross_entropy(model(batch["inputs"]).logits, batch["labels"], reduction="none")
        total = (weights[batch[GROUP_KEY]] * losses).mean()
        gradient = torch.autograd.grad(total, list(model.parameters()))
        mine = step_gradient(subject, batch)
        assert_same(mine, dict(zip(mine, gradient, strict=True)), 1e-9)
        sizes.append(len(losses))
    assert sizes == [20, 20, 20, 20, 8]
