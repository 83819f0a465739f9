"""The benchmark program: its figures are there, and engines give equal answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runners.lab.bench.workloads import build_workload
from tests.runners.conftest import Shell

FIELDS = {
    "workload",
    "engine",
    "model",
    "dtype",
    "num_questions",
    "questions_per_s",
    "ratio_to_sequential",
    "answers_equal",
    "peak_memory_bytes",
    "mfu",
    "stages_s",
}


def test_report_holds_every_engine_on_every_workload(call: Shell, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = (
        "runners.bench workload=[vqav2,scienceqa] model=llava-demo "
        f"engine=[sequential,batched,packed] num_images=2 output={output}"
    )
    done = call(command, tmp_path)
    assert done.code == 0, done.stderr
    report = json.loads(output.read_text())
    assert set(report) == {"device", "versions", "matmul_flops_per_s", "results"}
    assert len(report["results"]) == 6
    for result in report["results"]:
        assert set(result) == FIELDS
        assert result["questions_per_s"] > 0
        assert result["mfu"] > 0
        if result["engine"] != "batched":
            assert result["answers_equal"] == 1.0
    assert "vqav2" in done.stdout


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("workload=[chess]", "chess"),
        ("engine=[magic]", "magic"),
        ("repeats=0", "repeats"),
        ("replay=foo", "replay"),
    ],
)
def test_unknown_values_are_named(option: str, named: str, call: Shell, tmp_path: Path) -> None:
    done = call(f"runners.bench {option}", tmp_path)
    assert done.code == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_workloads_have_the_shape_of_the_benchmarks() -> None:
    gqa = build_workload("gqa", 200, 900, 0)
    assert 28 < len(gqa) / 200 < 36
    assert len(build_workload("vqav2", 30, 900, 0)) == 160
    science = build_workload("scienceqa", 300, 900, 0)
    lengths = sorted(len(request.prompt_ids) for request in science)
    assert len(science) == 300
    assert 90 < lengths[150] < 125
    assert {r.generation.max_new_tokens for r in build_workload("generate", 2, 900, 0)} == {200}


def test_real_question_file_decides_the_groups(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    lines = [json.dumps({"question_id": i, "image": f"{i // 7}.jpg"}) for i in range(21)]
    questions.write_text("\n".join(lines))
    assert len(build_workload("gqa", 4, 900, 0, questions)) == 28
