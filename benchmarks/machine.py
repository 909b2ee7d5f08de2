"""What the benchmarks share: the machine in words, the memory of a process, and measuring in a fresh one."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers


def describe_machine() -> str:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{torch.multiprocessing.cpu_count()} cores ({cpu}), {device}; torch {torch.__version__} on "
        f"{torch.get_num_threads()} threads, transformers {transformers.__version__}"
    )


def memory() -> dict[str, int]:
    """Bytes resident in this process: now, its peak, and the part that is mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssFile")}


def in_fresh_process(script: str, name: str, *arguments: Any) -> dict[str, Any]:
    """What a benchmark's own `--measure NAME ARGUMENTS` prints last, as JSON, in a process that did nothing before."""
    command = [sys.executable, script, "--measure", name, json.dumps(arguments)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(answer.splitlines()[-1])
