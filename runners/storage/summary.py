"""`summary.json` and `scores.jsonl`: what the answers of a task came to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.records import Score
from runners.storage.files import json_line, write_json, write_jsonl

SUMMARY_FILE = "summary.json"
SCORES_FILE = "scores.jsonl"


def write_results(folder: Path, summary: Mapping[str, Any], scores: list[Score]) -> None:
    """Writes `scores.jsonl`, if there are scores, and then `summary.json`, which has its hash."""
    if scores:
        write_jsonl(folder / SCORES_FILE, (score.to_line() for score in scores))
    else:
        (folder / SCORES_FILE).unlink(missing_ok=True)
    hashes = {name: value for name, value in summary["hashes"].items() if name != "scores"}
    hashes |= scores_hash(scores)
    write_json(folder / SUMMARY_FILE, {**summary, "hashes": hashes})


def scores_hash(scores: Sequence[Score]) -> dict[str, str]:
    """The hash of `scores.jsonl`, by which the gate knows that nobody edited it."""
    if not scores:
        return {}
    lines = "".join(json_line(score.to_line()) for score in scores)
    return {"scores": hashlib.sha256(lines.encode()).hexdigest()}


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Returns the summary in a task's folder, None if there is none that can be read."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) else None
