from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evals.small_data import put_lines
from tests.runners.conftest import Finished, Shell, read_lines

COUNT = 3
TASKS = ("gqa", "vqav2")


@pytest.mark.slow
def test_shards_join_into_the_bytes_of_the_whole_run(
    shell: Callable[[str, Path], Finished], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = (
        f"python -m runners.eval model.path={tiny_checkpoint} task=[gqa,vqav2] data=demo run=A "
        "data.demo.num_images=5 generation.max_new_tokens=4 runner.num_threads=1"
    )
    assert shell(f"{command} results_dir=whole", tmp_path).code == 0
    for index in range(1, COUNT + 1):
        finished = shell(f"{command} runner.shard={index}/{COUNT}", tmp_path)
        assert finished.code == 0, finished.stderr
        part = tmp_path / "results" / f"A-shard-{index}-of-{COUNT}"
        whole = len(read_lines(tmp_path / "whole/A/gqa/predictions.jsonl"))
        assert 0 < len(read_lines(part / "gqa/predictions.jsonl")) < whole
        merged = shell(f"python -m runners.score run=A merge={COUNT}", tmp_path)
        assert merged.code == (index < COUNT), merged.stderr
    for task in TASKS:
        for name in ("predictions.jsonl", "scores.jsonl"):
            whole_file = tmp_path / "whole" / "A" / task / name
            assert (
                tmp_path / "results" / "A" / task / name
            ).read_bytes() == whole_file.read_bytes()
    again = shell(command, tmp_path)
    assert again.code == 0, again.stderr
    assert "no model is loaded" in again.stderr


def test_part_without_questions_is_refused_and_a_task_without_any_left_out(
    call: Shell, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    put_lines(tmp_path / "q.jsonl", [{"question_id": n, "text": "Why?"} for n in range(9)])
    command = (
        f"python -m runners.eval model.path={tiny_checkpoint} data=demo data.demo.num_images=2 "
        "runner.shard=3/3 dry_run=true task="
    )
    refused = call(f"{command}gqa", tmp_path)
    assert refused.code == 2
    assert "gqa: no questions for runner.shard=3/3" in refused.stderr
    planned = call(f"{command}[gqa,custom] tasks.custom.questions=q.jsonl", tmp_path)
    assert planned.code == 0, planned.stderr
    assert "gqa has no questions for this part and is left out" in planned.stderr
    assert "custom" in planned.stdout
    assert "gqa" not in planned.stdout
