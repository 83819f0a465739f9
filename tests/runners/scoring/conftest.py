"""Answers to judged benchmarks, and the command line that has them judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evals.small_data import put_lines, write_llavabench, write_mmvet
from tests.runners.chat_server import ChatServer

QUICK = ["judge.backoff_s=0.01", "judge.requests_per_minute=60000"]


@pytest.fixture(autouse=True)
def client_library() -> None:
    """Without the library that asks judges, there is nothing to test."""
    pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mmvet(tmp_path: Path) -> Path:
    """Two questions of MM-Vet and an answer to each."""
    write_mmvet(tmp_path / "mmvet")
    answers = [{"question_id": f"v1_{n}", "text": f"Answer {n}."} for n in range(2)]
    put_lines(tmp_path / "answers.jsonl", answers)
    return tmp_path / "mmvet"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Three questions of LLaVA-Bench and an answer to each."""
    write_llavabench(tmp_path / "bench")
    answers = [{"question_id": n, "text": f"Answer {n}."} for n in range(3)]
    put_lines(tmp_path / "answers.jsonl", answers)
    return tmp_path / "bench"


def options(task: str, data_dir: Path, *more: str) -> list[str]:
    return [
        f"task={task}",
        f"tasks.{task}.data_dir={data_dir}",
        f"predictions={data_dir.parent}/answers.jsonl",
        f"output={data_dir.parent}/out",
        *more,
    ]


def judged(server: ChatServer, *more: str) -> list[str]:
    return ["judge=openai", f"judge.base_url={server.base_url}", *QUICK, *more]


def summary_of(folder: Path, task: str = "mmvet") -> dict[str, Any]:
    return json.loads((folder / "out" / task / "summary.json").read_text())
