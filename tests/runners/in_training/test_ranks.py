"""Two processes that share the questions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import LoadedModel
from tests.runners.conftest import CHECKOUT, program_environment, read_lines
from tests.runners.in_training.conftest import ask

RANK = """
import json, sys
import torch
from torch.nn.parallel import DistributedDataParallel
import runners
from tests.demo_questions import load_demo

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
loaded = load_demo(torch.float32)
model = DistributedDataParallel(loaded.model.train())
rank = torch.distributed.get_rank()
if len(sys.argv) > 2 and rank == 1:
    sys.argv[2] = sys.argv[2] + "-elsewhere"
options = {"data_root": sys.argv[2]} if len(sys.argv) > 2 else {"data": "demo"}
try:
    summaries = runners.evaluate(
        model, loaded.tokenizer, loaded.image_processor, ["gqa", "scienceqa"],
        conversation="vicuna_v1", model_name="llava-demo", limit=48,
        output_dir=sys.argv[1] + "/run", **options,
    )
    said = {name: summary["hashes"]["answers"] for name, summary in summaries.items()}
except Exception as error:
    said = f"{type(error).__name__}: {error}"
with open(f"{sys.argv[1]}/rank{rank}.json", "w") as file:
    json.dump(said, file)
torch.distributed.destroy_process_group()
"""


def on_two_ranks(folder: Path, cache: Path, *arguments: str) -> list[Any]:
    (folder / "rank.py").write_text(RANK)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    finished = subprocess.run(
        [sys.executable, *command, str(folder / "rank.py"), str(folder), *arguments],
        cwd=CHECKOUT,
        env=program_environment(cache),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_ranks_share_the_questions_and_all_get_the_figures(
    demo: LoadedModel, cache_home: Path, tmp_path: Path
) -> None:
    alone = ask(demo, ["gqa", "scienceqa"])
    expected = {name: summary["hashes"]["answers"] for name, summary in alone.items()}
    assert on_two_ranks(tmp_path, cache_home) == [expected, expected]
    for task in expected:
        workers = {line["worker"] for line in read_lines(tmp_path / "run" / task / "trace.jsonl")}
        assert workers == {"rank 0", "rank 1"}


@pytest.mark.slow
def test_no_rank_waits_for_one_that_has_no_data(cache_home: Path, tmp_path: Path) -> None:
    first, second = on_two_ranks(tmp_path, cache_home, str(tmp_path / "data"))
    assert "data/gqa" in first
    assert "data-elsewhere/gqa" in second
