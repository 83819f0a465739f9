"""Runs every part on the GPU, each in a process of its own, and writes one file of figures.

    python -m tests.gpu [--output FOLDER] [--only PART ...]

The file, `gpu-<device>.json`, is written anew after each part, so that a machine that is taken away
leaves what was found. A part that needs a package that is not installed is left out, with the
reason; nothing is installed. Exits 1 if a part failed, 0 otherwise, also where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

CHECKOUT = Path(__file__).parents[2]
TAIL = 4000
"""Characters of a failed part's output that are kept."""

PARTS = {
    "device": (15, "matrix products, memory and kernel starts by themselves, for the roofline"),
    "tests": (100, "the tests marked `gpu`"),
    "bench": (200, "the engines at the sizes of a 7B model: gqa, scienceqa, generate, in bfloat16"),
    "kernels": (35, "which kernels a pack really takes, with torch.profiler"),
    "processes": (90, "two processes on one GPU, beside one"),
    "quantized": (30, "the demo checkpoint in nf4 and int8"),
}
"""By name: how many seconds a part may take, and what it is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "results" / "bench")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("There is no CUDA device here. On one, this would run:")
        for name in options.only:
            limit_s, what = PARTS[name]
            print(f"  {name:<10} {what} (at most {limit_s} s)")
        print(f"and write {options.output}/gpu-<device>.json")
        return 0
    device = torch.cuda.get_device_name()
    path = options.output / f"gpu-{re.sub('[^a-z0-9]+', '-', device.lower())}.json"
    found: dict[str, object] = {}
    failed = []
    for name in options.only:
        part = run_part(name)
        found[name] = part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"device": device, "parts": found}, indent=2) + "\n")
        print(f"{name:<10} {part['status']} in {part['seconds']} s {part.get('reason', '')}")
        if part["status"] == "failed":
            failed.append(name)
            print(part["output"])
    print(path)
    return 1 if failed else 0


def run_part(name: str) -> dict[str, object]:
    """Returns what a part found, run in a process of its own: it may crash or hang."""
    limit_s, _ = PARTS[name]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        command = [sys.executable, "-m", "tests.gpu.parts", name, str(output)]
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that what it starts ends with it
        )
        try:
            told, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            told, _ = process.communicate()
            told += f"\nnot done after {limit_s} s"
        seconds = round(time.monotonic() - started, 1)
        if process.returncode == 0:
            return {"seconds": seconds, **json.loads(output.read_text())}
    return {"status": "failed", "seconds": seconds, "output": told[-TAIL:]}


if __name__ == "__main__":
    sys.exit(main())
