"""DDP, FSDP 1 and FSDP 2 by `accelerate launch` with the configurations that the recipes ship, beside one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from helpers import assert_same, images, launch, mlp, resnet, trainer, weights
from places import ROOT, SUPPORT, python_path
from sharded import CONFIGS, FSDP, MODES, STEPS, build, figures, launch_options
from transformers import BertForSequenceClassification, Trainer

RECIPES = ROOT / "recipes"
KINDS = {
    "ddp": ("DistributedDataParallel", {}),
    "fsdp1": ("FullyShardedDataParallel", FSDP),
    "fsdp2": ("FSDPBertForSequenceClassification", FSDP),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_results_are_those_of_one_process(name, tmp_path):
    """One process takes by accumulation what the two take side by side."""
    kind, env = KINDS[name]
    done = launch(SUPPORT / "sharded.py", tmp_path, ",".join(MODES), options=launch_options(name), **env)
    assert done.returncode == 0, done.stderr[-4000:]
    for mode in MODES:
        alone = build(tmp_path / "alone", mode, gradient_accumulation_steps=2)
        alone.train()
        after = figures(alone.evaluate())
        losses = [entry["loss"] for entry in alone.state.log_history if "loss" in entry]
        ranks = [json.loads((tmp_path / f"{mode}-{rank}.json").read_text()) for rank in (0, 1)]
        for seen in ranks:
            assert seen["processes"] == 2 and seen["kind"] == kind
            assert seen["losses"] == pytest.approx(losses, abs=1e-4) and len(losses) == STEPS
            for key in after.keys() - {"eval_loss"}:  # of the 5 last rows the processes repeat some
                assert seen["after"][key] == pytest.approx(after[key], abs=1e-9), key
        whole = sum(parameter.numel() for parameter in alone.model.parameters())
        held = sum(seen["parameters"] for seen in ranks)
        assert held == 2 * whole if name == "ddp" else whole <= held < 1.5 * whole
        again = BertForSequenceClassification.from_pretrained(tmp_path / mode)
        assert_same(weights(again), weights(alone.model), 1e-4)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_accepted_by_accelerate(path):
    """As far as the launcher's own checks go, which start nothing."""
    given = launch_command_parser().parse_args(["--config_file", str(path), "--num_processes", "4", "script.py"])
    args, config, _ = _validate_launch_command(given)
    assert args.num_processes == 4 and config == load_config_from_file(str(path))
    assert args.use_fsdp == path.stem.startswith("fsdp") and args.use_deepspeed == path.stem.startswith("deepspeed")
    assert args.use_fsdp is False or args.fsdp_version == int(path.stem[-1])
    assert args.use_deepspeed is False or args.zero_stage == 2
    assert args.multi_gpu == (path.stem == "ddp")


@pytest.mark.parametrize("path", sorted((RECIPES / "launch").glob("*.sh")), ids=lambda path: path.stem)
def test_launch_scripts_are_shell(path):
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0 and os.access(path, os.X_OK)


@pytest.mark.slow
def test_launch_scripts_start_two_processes(tmp_path):
    """slurm.sh, with stand-ins for the two commands of SLURM, starts torchrun.sh, which starts two processes that meet
    on loopback."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"scontrol": "echo 127.0.0.1", "srun": '[ "$1" = --kill-on-bad-exit=1 ] && shift; "$@"'}.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)
    path = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
    slurm = {"SLURM_JOB_NODELIST": "node1", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NNODES": "1"}
    slurm |= {"SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "2", "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **slurm, "PATH": os.pathsep.join(path), "PYTHONPATH": python_path()}
    command = [str(RECIPES / "launch" / "slurm.sh"), str(SUPPORT / "sharded.py"), str(tmp_path), "fused"]
    done = subprocess.run(command, cwd=RECIPES.parent, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads((tmp_path / "fused-1.json").read_text())["processes"] == 2


@pytest.mark.parametrize("settings, model", [(dict(forward_mode="separate"), mlp), (dict(train=images()), resnet)])
def test_several_backward_passes_under_deepspeed_are_refused(settings, model, tmp_path, monkeypatch):
    """DeepSpeed by Accelerate's configuration; `GerneConfig.deepspeed` is not set then."""
    create = Trainer.create_accelerator_and_postprocess

    def under_deepspeed(self):
        create(self)
        self.is_deepspeed_enabled = True

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", under_deepspeed)
    with pytest.raises(ValueError, match="DeepSpeed.*forward_mode='fused'"):
        trainer(tmp_path, model(), **settings)
    trainer(tmp_path, model(), **{**settings, "forward_mode": "fused"})
