"""Memory does not grow with the steps; `benchmarks/memory.py` measures it over 10,000 of them."""

import gc
import os

import pytest
from helpers import trainer
from transformers import TrainerCallback


class Watch(TrainerCallback):
    def __init__(self):
        self.sizes = {}

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % 300 == 0:
            gc.collect()
            with open("/proc/self/statm", encoding="ascii") as file:
                self.sizes[state.global_step] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_a_longer_training_holds_no_more(tmp_path, without_pictures, mode):
    watch = Watch()
    trainer(tmp_path, max_steps=900, forward_mode=mode, callbacks=[watch], logging_steps=50).train()
    assert watch.sizes[900] - watch.sizes[300] < 4e6
