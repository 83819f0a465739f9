from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from runners.eval import evaluate
from runners.options import program
from runners.storage.answer_store import SYNC_EVERY_S
from tests.faults.engines import held, register_engines
from tests.runners.conftest import CHECKOUT, read_lines


@pytest.fixture
def options(
    tiny_checkpoint: Path, cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A run `r` of the questions in `q.jsonl`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.syspath_prepend(CHECKOUT)  # where the worker finds its engine
    return [
        *(f"model.path={tiny_checkpoint}", "task=custom"),
        *(f"tasks.custom.questions={tmp_path}/q.jsonl", "generation.max_new_tokens=2"),
        *("run=r", f"results_dir={tmp_path}/results", "runner.num_threads=1"),
    ]


def write_questions(folder: Path, texts: Iterable[str]) -> None:
    lines = [{"question_id": number, "text": text} for number, text in enumerate(texts)]
    (folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    "texts",
    [
        ["What is 0?", "Half a character: \ud83d", "An <image>?"],
        pytest.param(["\ud83d", "An <image>?"], marks=pytest.mark.slow),
    ],
)
def test_what_nobody_can_be_asked_is_stored_beside_the_answers(
    texts: list[str], options: list[str], tmp_path: Path
) -> None:
    write_questions(tmp_path, texts)
    assert program.run("eval", evaluate, options) == 1
    lines = read_lines(tmp_path / "results/r/custom/predictions.jsonl")
    causes = [line["metadata"].get("error", {}).get("cause") for line in lines]
    assert causes == [*[None] * (len(texts) - 2), "text_unreadable", "image_count"]
    workers = [trace["worker"] for trace in read_lines(tmp_path / "results/r/custom/trace.jsonl")]
    assert workers == [*["local-0"] * (len(texts) - 2), None, None]


@pytest.mark.slow
def test_answers_reach_the_disk_while_no_others_come(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is alone until it is synced, or for far longer than that may take."""
    write_questions(tmp_path, (f"What is {number}?" for number in range(3)))
    go, sizes = tmp_path / "go", []
    fsync = os.fsync

    def observed_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name == "predictions.jsonl" and not go.exists():
            sizes.append(path.read_bytes().count(b"\n"))
            go.touch()

    monkeypatch.setattr(os, "fsync", observed_fsync)
    register_engines()
    words = [*options, *held(go, num_before=1).split()]
    predictions = tmp_path / "results/r/custom/predictions.jsonl"

    def go_on_too_late() -> None:
        while not predictions.exists():  # a loaded machine takes long to the first answer
            if over.wait(0.05):
                return
        if not over.wait(15 * SYNC_EVERY_S):
            go.touch()

    over = threading.Event()
    too_late = threading.Thread(target=go_on_too_late)
    too_late.start()
    try:
        assert program.run("eval", evaluate, words) == 0
    finally:
        over.set()
        too_late.join()
    assert sizes == [1]
