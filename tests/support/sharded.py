"""What test_sharded.py runs under each configuration of Accelerate: train, evaluate, save, reload."""

import json
import os
import sys
from pathlib import Path

from accelerate import DistributedType, PartialState
from helpers import bert, sentences, trainer
from places import ROOT
from torch.distributed.fsdp import _optim_utils

from gerne_hf.utils.distributed import leave_processes_at_exit

COUNTS = [[44, 8], [12, 32]]
"""96 rows, 12 batches of 8: the same epoch for 1 and 2 processes."""
HELD_OUT = [[9, 14], [11, 3]]
STEPS, ROWS = 4, 8
MODES = ("fused", "separate")
CONFIGS = ROOT / "recipes" / "configs" / "accelerate"
FSDP = {"ACCELERATE_TORCH_DEVICE": "cpu"}
"""Environment of the processes."""
SETTINGS = dict(max_steps=STEPS, per_device_train_batch_size=ROWS, per_device_eval_batch_size=4, beta=0.8)
SETTINGS |= dict(optim="adamw_torch", learning_rate=0.01, adam_epsilon=1e-4, max_grad_norm=1.0)


def shard_on_the_cpu() -> None:
    """Accelerate knows FSDP on accelerators only: with `cpu=True` it is DDP, whatever the configuration says. So let
    it take gloo's processes for those of an accelerator; ACCELERATE_TORCH_DEVICE=cpu chooses the device."""
    PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_GPU)
    unflatten = _optim_utils._unflatten_orig_param_states

    def unflatten_copies(info, states, name, *options):
        # FSDP 1 gathers one state of the optimizer after the other into the same memory and copies each "to the CPU",
        # which on the CPU is no copy: all would become the last one.
        unflatten(info, states, name, *options)
        for state in states.values():
            state[name] = state[name].clone()

    _optim_utils._unflatten_orig_param_states = unflatten_copies


def launch_options(name: str) -> list[str]:
    """Of the launcher, for a configuration that the recipes ship."""
    sync = ["--fsdp_sync_module_states", "false"] if name == "fsdp1" else []  # Accelerate does it on accelerators only
    return ["--config_file", str(CONFIGS / f"{name}.yaml"), *sync]


def build(output_dir, mode, **settings):
    """The trainer of this test, for one process or two."""
    data = sentences(HELD_OUT, seed=5)
    settings = {**SETTINGS, "forward_mode": mode, **settings}
    return trainer(output_dir, bert(), sentences(COUNTS), eval_dataset=data, **settings)


def figures(metrics) -> dict:
    """Without times and rates."""
    return {key: value for key, value in metrics.items() if "runtime" not in key and "per_second" not in key}


def main(folder: str, modes: str) -> None:
    """Leave `MODE/`, the saved model, and `MODE-RANK.json` in `folder`."""
    sharded = "ACCELERATE_TORCH_DEVICE" in os.environ
    if sharded:
        shard_on_the_cpu()
    for mode in modes.split(","):
        out = Path(folder) / mode
        subject = build(out, mode, use_cpu=not sharded)
        subject.train()
        seen = {"kind": type(subject.model_wrapped).__name__, "type": str(subject.accelerator.distributed_type)}
        seen |= {"processes": subject.args.world_size, "after": figures(subject.evaluate())}
        seen["losses"] = [entry["loss"] for entry in subject.state.log_history if "loss" in entry]
        local = [p.to_local() if hasattr(p, "to_local") else p for p in subject.model_wrapped.parameters()]
        seen["parameters"] = sum(part.numel() for part in local)
        subject.save_model(str(out))
        subject.accelerator.wait_for_everyone()
        (Path(folder) / f"{mode}-{subject.args.process_index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    leave_processes_at_exit()
    main(*sys.argv[1:])
