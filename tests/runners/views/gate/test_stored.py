"""Runs as they lie on disk: found by name or folder, unfinished, spoilt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evals.small_data import put_lines
from tests.runners.gated_runs import right, store
from tests.runners.views.gate.conftest import gate, verdict


def spoil_summary(folder: Path) -> None:
    (folder / "summary.json").unlink()


def spoil_answers(folder: Path) -> None:
    put_lines(folder / "predictions.jsonl", [{"text": "later"}])


def spoil_length(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(lines[1:]))


def spoil_line(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(['{"key": "0", "score": 7}\n', *lines[1:]]))


def spoil_keys(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join([lines[1], *lines[1:]]))


def spoil_hashes(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"hashes": {}}))


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_summary, "no complete run: summary.json is missing"),
        (spoil_answers, "has changed since it was scored"),
        (spoil_length, "must have 30 lines"),
        (spoil_line, "scores.jsonl:1 must have a `score` in 0..1"),
        (spoil_keys, "scores.jsonl:2 repeats the key '1'"),
        (spoil_hashes, "lacks the field `answers`"),
    ],
)
def test_unfinished_or_spoilt_runs_are_refused(
    spoil: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30))
    spoil(store("new", "gqa", right(30)))
    assert gate() == 2
    assert reason in capsys.readouterr().err


def test_scores_that_were_edited_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(30))
    folder = store("new", "gqa", right(30))
    digest = hashlib.sha256((folder / "scores.jsonl").read_bytes()).hexdigest()
    summary = json.loads((folder / "summary.json").read_text())
    summary["hashes"]["scores"] = digest
    (folder / "summary.json").write_text(json.dumps(summary))
    assert gate() == 0
    text = (folder / "scores.jsonl").read_text()
    (folder / "scores.jsonl").write_text(text.replace('"score": 1.0', '"score": 0.5', 1))
    assert gate() == 2
    assert "scores.jsonl has changed since it was scored" in capsys.readouterr().err


def test_scores_are_enough(tmp_path: Path) -> None:
    store("old", "gqa", right(30))
    (store("new", "gqa", right(30)) / "predictions.jsonl").unlink()
    assert gate() == 0


def test_runs_are_found_by_their_folders(tmp_path: Path) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30))
    Path("results/new").rename("a=b, c")
    folder = str(tmp_path / "a=b, c")
    assert gate(baseline="results/old", candidate=folder) == 0
    assert verdict(f"{folder}/regress-old")["verdict"] == "pass"
