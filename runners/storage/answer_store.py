"""The answers of one task of a run on disk: appended as they come, in order once complete."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.reading.files import collection_paused
from runners.storage.answer_lines import count_replays, is_failure, is_good
from runners.storage.files import (
    SPOILED_SUFFIX,
    json_line,
    mend_lines,
    sha256_of_json,
)
from runners.storage.line_file import NOWHERE, LineFile
from runners.storage.plain_lines import Attempt, attempt_of, read_line, read_trace

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
    in the benchmark's order. In memory is kept where each line stands, not what it says.

    Attributes:
        num_torn: Unfinished last lines that were removed on opening.
        num_spoiled: Lines that were none of these files' and were set aside on opening.
        num_unconfirmed: Questions whose stored answer is not the one that the trace names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: LineFile(folder / name) for name in (TRACE_FILE, PREDICTIONS_FILE)}
        self._unsynced_since: float | None = None
        self._numbers: dict[str, int] = {}  # of every question that has a trace, by key
        self._attempts: list[Attempt] = []  # the last one, by number
        self._failed: set[str] = set()
        self._odd: set[int] = set()  # what may stand there otherwise than a program writes it
        self.num_torn = self.num_spoiled = 0
        self.num_unconfirmed = self._read()

    @property
    def lines(self) -> Mapping[str, Mapping[str, Any]]:
        """The last line of each question, by key; read from the disk when it is looked at."""
        return _Lines(self._files[PREDICTIONS_FILE], self._numbers)

    def has_answer(self, key: str) -> bool:
        """Whether a question has a line that records no failure."""
        number = self._numbers.get(key, NOWHERE)
        return self._files[PREDICTIONS_FILE].has(number) and key not in self._failed

    def failed(self) -> set[str]:
        """The keys of questions whose last attempt failed."""
        return set(self._failed)

    def num_attempts(self, key: str) -> int:
        """How often a question was tried, as far as the trace says."""
        return self._attempts[self._numbers[key]].number if key in self._numbers else 0

    def image_stats(self, key: str) -> list[Any]:
        """The state of each image file when a question was asked."""
        return self._attempts[self._numbers[key]].image_stat

    def image_hashes(self, key: str) -> list[str]:
        """The hash of each image as the worker saw it; none for a question that failed."""
        hashes: list[str] = self._trace(key)["image_sha256"]
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
        attempts = (self._attempts[self._numbers[key]] for key in self.lines)
        return count_replays((attempt.is_replayed, attempt.is_flipped) for attempt in attempts)

    def add(self, line: dict[str, Any], trace: dict[str, Any]) -> None:
        """Appends one answer or failure and its trace."""
        key, sha256 = trace["key"], sha256_of_json(line)
        number = self._note(key, attempt_of(trace))
        self._append(TRACE_FILE, number, {**trace, "line_sha256": sha256})
        self._append(PREDICTIONS_FILE, number, line)
        (self._failed.add if is_failure(line) else self._failed.discard)(key)
        self._odd.discard(number)
        self.sync()

    def update_image_stats(self, key: str, stats: Sequence[Any]) -> None:
        """Appends to the trace that the files of unchanged images have another state now."""
        trace = {**self._trace(key), "image_stat": list(stats)}
        self._append(TRACE_FILE, self._note(key, attempt_of(trace)), trace)
        self.sync()

    def sync(self, max_age_s: float = SYNC_EVERY_S) -> None:
        """Puts what was added on the disk if any of it has waited that long; else costs nothing.

        Raises:
            OSError: the disk does not take it, or a file was removed since it was opened.
        """
        since = self._unsynced_since
        if since is None or time.monotonic() - since < max_age_s:
            return
        for file in self._files.values():
            file.sync()
        self._unsynced_since = None

    def finish(self, order: Sequence[str]) -> None:
        """Rewrites both files with one line a question, in the order of the given keys."""
        self.close()
        asked = [self._numbers[key] for key in order if key in self._numbers]
        for name in (PREDICTIONS_FILE, TRACE_FILE):
            file = self._files[name]
            odd = self._odd if name == PREDICTIONS_FILE else frozenset()
            file.rewrite([number for number in asked if file.has(number)], odd)

    def close(self) -> None:
        """Puts everything on the disk and closes the files; `add` opens them again."""
        try:
            self.sync(max_age_s=0.0)
        finally:
            for file in self._files.values():
                file.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> int:
        """Finds what is stored, and mends the files; returns how many answers do not count."""
        traces, lines = self._files.values()
        named: dict[str, str | None] = {}
        others: set[str] = set()

        def take_trace(content: bytes, place: int) -> bool:
            facts = read_trace(content)
            if facts is None:
                return False
            # The last line of a key wins: a question that failed may have been answered later.
            named[facts.key] = facts.line_sha256
            traces.put(self._note(facts.key, facts.attempt), place, content)
            return True

        def take_line(content: bytes, place: int) -> bool:
            facts = read_line(content, named)
            if is_good(facts, named):
                number = self._numbers[facts.key]
                lines.put(number, place, content)
                (self._failed.add if facts.is_failure else self._failed.discard)(facts.key)
                (self._odd.discard if facts.is_plain else self._odd.add)(number)
            elif facts is not None:
                others.add(facts.key)
            return facts is not None

        with collection_paused():
            for file, take in ((traces, take_trace), (lines, take_line)):
                mended = mend_lines(file.path, take)
                self.num_torn += mended.num_torn
                self.num_spoiled += mended.num_spoiled
        return len(others - self.lines.keys())

    def _note(self, key: str, attempt: Attempt) -> int:
        """Keeps what is known of the last attempt at a question; returns the question's number."""
        number = self._numbers.setdefault(key, len(self._attempts))
        self._attempts[number : number + 1] = [attempt]
        return number

    def _trace(self, key: str) -> dict[str, Any]:
        trace: dict[str, Any] = json.loads(self._files[TRACE_FILE].read(self._numbers[key]))
        return trace

    def _append(self, name: str, number: int, record: dict[str, Any]) -> None:
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        self._files[name].append(number, json_line(record).encode())


class _Lines(Mapping[str, Mapping[str, Any]]):
    """The lines of a file by key."""

    def __init__(self, file: LineFile, numbers: Mapping[str, int]) -> None:
        self._file = file
        self._numbers = numbers

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        if key not in self:
            raise KeyError(key)
        record: dict[str, Any] = json.loads(self._file.read(self._numbers[key]))
        return record

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._file.has(self._numbers.get(key, NOWHERE))

    def __iter__(self) -> Iterator[str]:
        return (key for key, number in self._numbers.items() if self._file.has(number))

    def __len__(self) -> int:
        return sum(map(self._file.has, self._numbers.values()))
