from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from runners.eval import evaluate
from runners.options import program
from runners.storage.answers import SYNC_EVERY_S
from tests.faults.engines import held, register_engines
from tests.runners.conftest import CHECKOUT


def test_answers_reach_the_disk_while_no_others_come(
    tiny_checkpoint: Path, cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is alone until it is synced, or for far longer than that may take."""
    lines = [{"question_id": number, "text": f"What is {number}?"} for number in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    go, sizes = tmp_path / "go", []
    fsync = os.fsync

    def observed_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name == "predictions.jsonl" and not go.exists():
            sizes.append(path.read_bytes().count(b"\n"))
            go.touch()

    monkeypatch.setattr(os, "fsync", observed_fsync)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.syspath_prepend(CHECKOUT)  # where the worker finds its engine
    register_engines()
    words = [
        *(f"model.path={tiny_checkpoint}", "task=custom"),
        *(f"tasks.custom.questions={tmp_path}/q.jsonl", "generation.max_new_tokens=2"),
        *("run=r", f"results_dir={tmp_path}/results", "runner.num_threads=1"),
        *held(go, num_before=1).split(),
    ]
    too_late = threading.Timer(15 * SYNC_EVERY_S, go.touch)
    too_late.start()
    try:
        assert program.run("eval", evaluate, words) == 0
    finally:
        too_late.cancel()
    assert sizes == [1]
