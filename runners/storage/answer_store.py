"""The answers of one task of a run on disk: appended as they come, in order once complete."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from runners.storage.answer_lines import (
    count_replays,
    good_lines,
    is_answer_line,
    is_failure,
    is_trace_line,
)
from runners.storage.files import (
    SPOILED_SUFFIX,
    json_line,
    recover_jsonl,
    sha256_of_json,
    sync_folder,
    write_atomic,
)

logger = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.jsonl"
TRACE_FILE = "trace.jsonl"
SYNC_EVERY_S = 2.0
"""A power cut loses the answers of about this time; a killed process loses none."""


class AnswerStore:
    """`predictions.jsonl` and `trace.jsonl` of one task; one process writes at a time.

    Each answer is appended as it comes, first its trace, which names the hash of the line that is
    to follow, then the line itself. Whatever a crash leaves of the two files, an answer counts only
    if its trace is there and names it; everything else is asked again. `finish` rewrites both files
    in the benchmark's order.

    Attributes:
        num_torn: Unfinished last lines that were removed on opening.
        num_spoiled: Lines that were none of these files' and were set aside on opening.
        num_unconfirmed: Questions whose stored answer is not the one that the trace names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, FileIO] = {}
        self._unsynced_since: float | None = None
        traces = recover_jsonl(folder / TRACE_FILE, is_trace_line)
        predictions = recover_jsonl(folder / PREDICTIONS_FILE, is_answer_line)
        self.num_torn = traces.num_torn + predictions.num_torn
        self.num_spoiled = traces.num_spoiled + predictions.num_spoiled
        # The last line of a key wins: a question that failed may have been answered later.
        self._traces = {trace["key"]: trace for trace in traces.records}
        self._lines, self.num_unconfirmed = good_lines(predictions.records, self._traces)

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

    def image_stats(self, key: str) -> list[Any]:
        """The state of each image file when a question was asked."""
        stats: list[Any] = self._traces[key]["image_stat"]
        return stats

    def image_hashes(self, key: str) -> list[str]:
        """The hash of each image as the worker saw it; none for a question that failed."""
        hashes: list[str] = self._traces[key]["image_sha256"]
        return hashes

    def report_repairs(self) -> None:
        """Says what was wrong with the files of an earlier session."""
        path = self._folder / PREDICTIONS_FILE
        if self.num_spoiled:
            logger.warning(
                "%s: %d lines here or in %s were no answers of this run and were moved to files "
                "named *%s",
                path,
                self.num_spoiled,
                TRACE_FILE,
                SPOILED_SUFFIX,
            )
        if self.num_torn or self.num_unconfirmed:
            logger.warning(
                "%s: an interrupted run left %d unfinished lines and %d answers without their "
                "trace; these questions are asked again",
                path,
                self.num_torn,
                self.num_unconfirmed,
            )

    def batch_check(self) -> dict[str, int]:
        """How many answers were computed again, alone, and how many of these came out otherwise."""
        return count_replays(self._traces[key] for key in self._lines)

    def add(self, line: dict[str, Any], trace: dict[str, Any]) -> None:
        """Appends one answer or failure and its trace."""
        trace = {**trace, "line_sha256": sha256_of_json(line)}
        self._append(TRACE_FILE, trace)
        self._append(PREDICTIONS_FILE, line)
        self._lines[trace["key"]] = line
        self._traces[trace["key"]] = trace
        self.sync()

    def update_image_stats(self, key: str, stats: Sequence[Any]) -> None:
        """Appends to the trace that the files of unchanged images have another state now."""
        trace = {**self._traces[key], "image_stat": list(stats)}
        self._append(TRACE_FILE, trace)
        self._traces[key] = trace
        self.sync()

    def sync(self, max_age_s: float = SYNC_EVERY_S) -> None:
        """Puts what was added on the disk if any of it has waited that long; else costs nothing.

        Raises:
            OSError: the disk does not take it, or a file was removed since it was opened.
        """
        since = self._unsynced_since
        if since is None or time.monotonic() - since < max_age_s:
            return
        for name, file in self._files.items():
            os.fsync(file.fileno())
            _require_in_place(self._folder / name, file)
        self._unsynced_since = None

    def finish(self, order: Sequence[str]) -> None:
        """Rewrites both files with one line a question, in the order of the given keys."""
        self.close()
        for name, records in ((PREDICTIONS_FILE, self._lines), (TRACE_FILE, self._traces)):
            _rewrite(self._folder / name, (records[key] for key in order if key in records))

    def close(self) -> None:
        """Puts everything on the disk and closes the files; `add` opens them again."""
        try:
            self.sync(max_age_s=0.0)
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, name: str, record: dict[str, Any]) -> None:
        """Writes a whole line or none; what a process has written outlives it without flushing."""
        if name not in self._files:
            self._files[name] = FileIO(self._folder / name, "ab")
            sync_folder(self._folder)
        file = self._files[name]
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        size = os.fstat(file.fileno()).st_size
        rest = memoryview(json_line(record).encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(size)
            raise


def _require_in_place(path: Path, file: FileIO) -> None:
    """A file that was removed takes whatever is written to it, until it is closed."""
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _rewrite(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    content = "".join(json_line(record) for record in records)
    if not path.exists() or path.read_bytes() != content.encode():
        write_atomic(path, content)
