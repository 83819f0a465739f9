"""The answers of one task of a run on disk: appended as they come, in order once complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from runners.answer_lines import is_failure, key_of
from runners.files import json_line, recover_jsonl, write_atomic

PREDICTIONS_FILE = "predictions.jsonl"
TRACE_FILE = "trace.jsonl"


class AnswerStore:
    """`predictions.jsonl` and `trace.jsonl` of one task; one process writes at a time.

    Each answer is appended and flushed as it comes, so that a killed process loses at most the line
    that it was writing. That line is removed when the files are opened again. `finish` rewrites
    both files in the benchmark's order.

    Attributes:
        num_dropped: Spoiled lines that were removed on opening.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        predictions, self.num_dropped = recover_jsonl(folder / PREDICTIONS_FILE)
        traces, _ = recover_jsonl(folder / TRACE_FILE)
        # The last line of a key wins: a question that failed may have been answered later.
        self._lines = {key: line for line in predictions if (key := key_of(line)) is not None}
        self._traces = {trace["key"]: trace for trace in traces if "key" in trace}

    @property
    def lines(self) -> Mapping[str, Mapping[str, Any]]:
        """The last line of each question, by key."""
        return self._lines

    def failed(self) -> set[str]:
        """The keys of questions whose last attempt failed."""
        return {key for key, line in self._lines.items() if is_failure(line)}

    def num_attempts(self, key: str) -> int:
        """How often a question was tried, as far as the trace says."""
        return int(self._traces.get(key, {}).get("attempts", 0))

    def image_stats(self, key: str) -> list[Any] | None:
        """Size and time of each image file when a question was asked; None if that is not known."""
        stats: list[Any] | None = self._traces.get(key, {}).get("image_stat")
        return stats

    def batch_check(self) -> dict[str, int]:
        """How many answers were computed again, alone, and how many of these came out otherwise."""
        traces = [self._traces[key] for key in self._lines if key in self._traces]
        return {
            "recomputed": sum(bool(trace.get("replayed")) for trace in traces),
            "flipped": sum(bool(trace.get("flipped")) for trace in traces),
        }

    def add(self, line: dict[str, Any], trace: dict[str, Any]) -> None:
        """Appends one answer or failure and its trace, and flushes both."""
        self._append(PREDICTIONS_FILE, line)
        self._append(TRACE_FILE, trace)
        self._lines[trace["key"]] = line
        self._traces[trace["key"]] = trace

    def finish(self, order: Sequence[str]) -> None:
        """Rewrites both files with one line a question, in the order of the given keys."""
        self.close()
        for name, records in ((PREDICTIONS_FILE, self._lines), (TRACE_FILE, self._traces)):
            _rewrite(self._folder / name, (records[key] for key in order if key in records))

    def close(self) -> None:
        """Closes the files; `add` opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, name: str, record: dict[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("ab")
        self._files[name].write(json_line(record).encode())
        self._files[name].flush()


def _rewrite(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    content = "".join(json_line(record) for record in records)
    if not path.exists() or path.read_bytes() != content.encode():
        write_atomic(path, content)
