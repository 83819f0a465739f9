"""The script for a GPU, as far as a machine without one can show it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from runners.options.bench import BenchConfig
from tests.gpu.__main__ import CHECKOUT, PARTS, main, run_part
from tests.gpu.parts import BENCH
from tests.gpu.parts import PARTS as FUNCTIONS

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@without_gpu
def test_without_a_gpu_it_says_what_it_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "no CUDA device" in told
    assert all(name in told for name in PARTS)
    assert not list(tmp_path.iterdir())


def test_all_parts_together_take_under_eight_minutes() -> None:
    assert [function.__name__ for function in FUNCTIONS] == list(PARTS)
    assert sum(limit_s for limit_s, _ in PARTS.values()) < 8 * 60


def test_bench_is_asked_for_with_all_its_options() -> None:
    names = {field.name for field in fields(BenchConfig)} - {"output", "roofline"}
    assert set(BENCH) == names
    assert BenchConfig(**BENCH).model == "random-7b"


@pytest.mark.slow
@without_gpu
def test_a_part_that_fails_is_told_with_what_it_said() -> None:
    part = run_part("device")
    assert part["status"] == "failed"
    assert "CUDA" in str(part["output"]) or "NVIDIA" in str(part["output"])


def test_a_part_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "tests", (1, "what takes longer"))
    part = run_part("tests")
    assert part["status"] == "failed"
    assert str(part["output"]).endswith("not done after 1 s")


@pytest.mark.slow
def test_a_part_that_lacks_a_package_is_left_out(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    code = (
        "import sys; from pathlib import Path; from tests.gpu.parts import main\n"
        "sys.modules['bitsandbytes'] = None\n"
        f"main('quantized', Path({str(found)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
    assert json.loads(found.read_text()) == {
        "status": "left out",
        "reason": "bitsandbytes is not installed",
    }
