"""Recipes run in processes of their own, for tables over many settings and seeds."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def recipe_results(recipe: str, folder: Path, *options: str) -> dict[str, list[dict]]:
    """Run a recipe on one thread; runs that ended in `folder` before, with the same settings, are not repeated.

    Args:
        recipe (`str`): its name.
        folder (`Path`): its `output_dir`; what it prints goes to `log.txt` there.
        options (`str`): the other arguments.

    Returns:
        `dict[str, list[dict]]`: its `comparison.json`, the results alone.

    Raises:
        RuntimeError: if it fails.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    command += [str(ROOT / "recipes" / f"{recipe}.py"), *options]
    command += ["--output_dir", str(folder), "--disable_tqdm", "true", "--resume_from_checkpoint", "true"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise RuntimeError(f"a run failed; see {folder / 'log.txt'}")
    saved = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return {method: runs for method, runs in saved.items() if isinstance(runs, list)}
