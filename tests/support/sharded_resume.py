"""What test_sharded_resume.py runs under FSDP: runs that are whole, killed, and resumed."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from helpers import bert, sentences, trainer, watch_batches
from safetensors.torch import load_file
from sharded import COUNTS, HELD_OUT, shard_on_the_cpu
from transformers import Trainer, TrainerCallback

from gerne_hf.utils.distributed import leave_processes_at_exit

STEPS, EVERY, KILLED_AT = 10, 4, 9
SAVED = (4, 8, 10)
"""Steps; an epoch has 6 of 2 processes, so that the checkpoints lie within one."""
SETTINGS = dict(max_steps=STEPS, save_strategy="steps", save_steps=EVERY, beta=0.8, use_cpu=False)
SETTINGS |= dict(optim="adamw_torch", learning_rate=0.01, lr_scheduler_type="cosine", per_device_eval_batch_size=4)
BEST = dict(load_best_model_at_end=True, eval_strategy="steps", eval_steps=EVERY, save_total_limit=2)


class Kill(TrainerCallback):
    """SIGKILL for the second process, at the beginning of a step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == KILLED_AT and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def save_late(self, output_dir):
    """The second process is the last to write its files."""
    time.sleep(0.5 * self.args.process_index)
    _save_rng_state(self, output_dir)


_save_rng_state = Trainer._save_rng_state


def run(folder: Path, kind: str, task: str) -> None:
    """A run in the state of a new process. `task` is "whole", "killed", "resumed", the number of a step to resume
    from, or "restored", which trains nothing and takes the model that "whole" saved. It leaves `TASK-RANK.pt` in
    `folder`: the weights and the batches of a process."""
    resumes = task not in ("whole", "killed")
    out = folder / ("killed" if task in ("killed", "resumed") else "whole")
    settings = {**SETTINGS, **(BEST if kind == "best" else {}), "callbacks": [Kill()] if task == "killed" else []}
    if task.isdecimal():
        settings["save_strategy"] = "no"
    torch.manual_seed(77 if resumes else 5)
    model = bert(9 if resumes else 0, dropout=0.3)
    subject = trainer(out, model, sentences(COUNTS), eval_dataset=sentences(HELD_OUT, seed=5), **settings)
    batches = watch_batches(subject)
    Trainer._save_rng_state = save_late if task == "whole" else _save_rng_state
    if task == "restored":
        seen = {"weights": load_file(out / "model.safetensors")}
    else:
        subject.train(resume_from_checkpoint=f"{out}/checkpoint-{task}" if task.isdecimal() else resumes)
        seen = {"weights": subject.accelerator.get_state_dict(subject.model)}  # gathered in the first process
    if task == "whole":
        subject.save_model()
        subject.save_state()
    seen["rows"] = [batch["input_ids"] for batch in batches]
    seen["best"] = os.path.basename(subject.state.best_model_checkpoint or "")
    torch.save(seen, folder / f"{task}-{subject.args.process_index}.pt")


if __name__ == "__main__":
    leave_processes_at_exit()
    shard_on_the_cpu()
    for name in sys.argv[3:]:
        run(Path(sys.argv[1]), sys.argv[2], name)
