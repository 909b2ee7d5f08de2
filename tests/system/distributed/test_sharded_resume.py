"""Resume under FSDP 1 and 2: a run that was interrupted ends as if it had not been."""

import re
import shutil

import pytest
import torch
from helpers import assert_same, launch, weights
from places import SUPPORT
from sharded import FSDP, launch_options
from sharded_resume import SAVED, STEPS
from transformers import BertForSequenceClassification

from gerne_hf.checkpoints.seals import newest_whole, read_seal

MODEL, OPTIMIZER = "pytorch_model_fsdp", "optimizer"
FILES = {
    "FULL": {f"{MODEL}.bin", f"{OPTIMIZER}.bin", "model.safetensors"},
    "SHARDED": {f"{folder}_0/__{rank}_0.distcp" for folder in (MODEL, OPTIMIZER) for rank in (0, 1)},
}
FSDP1_ON_THE_CPU = pytest.mark.skipif(
    torch.__version__ < "2.14",
    reason="torch before 2.14 crashes (seen with 2.6 and 2.9) where FSDP 1 gathers a model on the CPU",
)


def start(name, shape, folder, *arguments):
    """Run sharded_resume.py on two processes under FSDP."""
    options = [*launch_options(name), "--fsdp_state_dict_type", f"{shape}_STATE_DICT"]
    return launch(SUPPORT / "sharded_resume.py", folder, *arguments, options=options, **FSDP)


def left(folder, task):
    """What both processes of a run left behind."""
    return [torch.load(folder / f"{task}-{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_goes_on(folder, whole, resumed, done):
    """The run that was resumed after `done` steps has the same draws and the same weights, bit for bit."""
    for before, after in zip(left(folder, whole), left(folder, resumed), strict=True):
        assert len(before["rows"]) == STEPS and len(after["rows"]) == STEPS - done
        assert all(torch.equal(x, y) for x, y in zip(before["rows"][done:], after["rows"], strict=True))
        assert before["best"] == after["best"]
    assert_same(left(folder, resumed)[0]["weights"], left(folder, whole)[0]["weights"])


@pytest.mark.parametrize(
    "name, shape",
    [
        # Accelerate alone loses the optimizer's state here
        pytest.param("fsdp1", "SHARDED", marks=FSDP1_ON_THE_CPU),
        pytest.param("fsdp1", "FULL", marks=[pytest.mark.slow, FSDP1_ON_THE_CPU]),
        pytest.param("fsdp2", "SHARDED", marks=pytest.mark.slow),
        pytest.param("fsdp2", "FULL", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_as_the_whole_one(name, shape, tmp_path):
    done = start(name, shape, tmp_path, "plain", "whole", 4, 8, "restored")
    assert done.returncode == 0, done.stderr[-4000:]
    for step in (4, 8):
        assert_goes_on(tmp_path, "whole", str(step), step)
    whole = left(tmp_path, "whole")[0]["weights"]
    assert_same(weights(BertForSequenceClassification.from_pretrained(tmp_path / "whole")), whole)
    for seen in left(tmp_path, "restored"):
        assert_same(seen["weights"], whole)
    for step in SAVED:  # sealed after the last process has written its last file
        files = read_seal(tmp_path / "whole" / f"checkpoint-{step}")["files"]
        assert files.keys() >= FILES[shape] | {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"}
    for file in sorted(FILES[shape]) + ["rng_state_1.pth"]:
        copy = shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        (copy / "checkpoint-10" / file).unlink()
        kept, damaged = newest_whole(str(copy))
        assert kept == str(copy / "checkpoint-8") and f"its file {file} is missing" in str(damaged)
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize("shape", FILES)
@pytest.mark.parametrize("name", [pytest.param("fsdp1", marks=FSDP1_ON_THE_CPU), "fsdp2"])
def test_a_killed_run_ends_as_the_whole_one(name, shape, tmp_path):
    """SIGKILL for one process in the second epoch, and then its part of the newest checkpoint is cut short. The best
    model is loaded at the end, and older checkpoints are deleted."""
    killed = start(name, shape, tmp_path, "best", "whole", "killed")
    assert killed.returncode != 0 and "Signal 9 (SIGKILL)" in killed.stderr
    older, newer = sorted((tmp_path / "killed").glob("checkpoint-*"))
    assert (older.name, newer.name) == ("checkpoint-4", "checkpoint-8")
    file = newer / (sorted(FILES[shape])[-1] if shape == "SHARDED" else "rng_state_1.pth")
    file.write_bytes(file.read_bytes()[:-100])

    resumed = start(name, shape, tmp_path, "best", "resumed")
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    assert re.search(f"{newer} is not whole: its file .* of .* bytes.*; {older} is used instead", resumed.stderr)
    assert_goes_on(tmp_path, "whole", "resumed", 4)
