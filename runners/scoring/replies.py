"""The replies of a judge on disk, and the calls that look there before they ask."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark
from evals.grading import Grading, JudgeClient
from evals.reading.replies import JudgeReply, JudgeRequest, hash_request
from evals.records import Cause, Failure, Prediction
from runners.scoring.endpoint import UnansweredError
from runners.storage.files import (
    json_line,
    make_folder,
    naming_file,
    recover_jsonl,
    require_plain,
    sync_folder,
)
from runners.storage.lock import FolderLock

logger = logging.getLogger(__name__)

_CAUSES = (Cause.JUDGE_REFUSED.value, Cause.JUDGE_SILENT.value)
"""Why there may be no reply; one that cannot be read is stored as it is."""


class NotStoredError(Exception):
    """A reply is needed that is not stored."""


def run_path(place: Path, run: int) -> Path:
    """The file with the replies of one run."""
    return place / f"run-{run}.jsonl"


class ReplyStore:
    """The replies of one run of a judge, appended as they come; safe to share between threads.

    A line carries the hash of what was asked, and why there is no reply where there is none. Where
    a benchmark asks again, because a reply could not be read, the last reply is stored under the
    hash of the first call too: scoring takes it from there, and the same calls made again find all
    their replies.

    Args:
        place: The folder.
        run: The number of the run, from 0.
        model: The judge.
        folder_lock: Of the folder, which may be lost while replies are waited for.
    """

    def __init__(self, place: Path, run: int, model: str, folder_lock: FolderLock) -> None:
        self.model = model
        self._folder_lock = folder_lock
        self._run = run
        self._lock = threading.Lock()
        path = run_path(place, run)
        found = recover_jsonl(path)
        if found.num_torn or found.num_spoiled:
            logger.warning(
                "%s: %d unfinished lines were removed, %d spoiled ones set aside",
                path,
                found.num_torn,
                found.num_spoiled,
            )
        self._found = {
            (reply.question_id, reply.request_sha256): reply
            for reply in map(self._read, found.records)
            if reply is not None  # of several replies the last one counts
        }
        self._path = path
        self._is_closed = False

    def _read(self, line: Mapping[str, Any]) -> JudgeReply | None:
        content, error = line.get("content"), line.get("error") or {}
        if not isinstance(content, str) or not isinstance(error, dict):
            return None
        if error and error.get("cause") not in _CAUSES:  # somebody else's: it is asked again
            return None
        return JudgeReply(
            question_id=str(line.get("question_id")),
            run=self._run,
            model=self.model,
            content=content,
            request_sha256=str(line.get("request_sha256")),
            error={name: str(error.get(name, "")) for name in ("cause", "message")}
            if error
            else {},
        )

    def find(self, question_id: str, digest: str) -> JudgeReply | None:
        """What the last request of its kind about a question came to."""
        return self._found.get((question_id, digest))

    def add(
        self, question_id: str, digest: str, content: str, error: Mapping[str, str] | None = None
    ) -> JudgeReply:
        """Appends a reply, or why there is none, so that it outlives this process and a power cut.

        Raises:
            ConfigError: something else than a file lies there.
            StoreError: the lock was removed, and somebody else may be writing to the file by now.
            ValueError: the store is closed, with the same consequence.
            WriteError: the disk does not take it.
        """
        reply = JudgeReply(
            question_id=question_id,
            run=self._run,
            model=self.model,
            content=content,
            request_sha256=digest,
            error=error or {},
        )
        with self._lock, naming_file(self._path):
            if self._is_closed:
                raise ValueError(f"{self._path} is closed: a reply came too late.")
            self._folder_lock.require_held()
            require_plain(self._path)
            make_folder(self._path.parent)
            is_new = not self._path.exists()
            # Opened anew each time: a reply takes seconds, and no file is left to be closed.
            with self._path.open("ab") as file:
                file.write(json_line(reply.to_line()).encode())
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self._path.parent)
            self._found[question_id, digest] = reply
        return reply

    def close(self) -> None:
        """Takes no further reply."""
        with self._lock:
            self._is_closed = True


class Call:
    """What one run of the judge has to say about one answer.

    Args:
        grading: How the benchmark is graded.
        store: Where replies are kept.
        prediction: The answer.
        request: What is asked first.
        retry_failed: Whether the judge is asked again where it gave no reply for good, or one that
            cannot be read. Where its endpoint did not reply, it is asked again in any case.
    """

    def __init__(
        self,
        grading: Grading,
        store: ReplyStore,
        prediction: Prediction,
        request: JudgeRequest,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.model = store.model
        self.request = request
        self.failed_before = False
        self._store = store
        self._prediction = prediction
        self._digest = hash_request(request)
        self._judge: JudgeClient | None = None
        before = store.find(prediction.key, self._digest)
        failure = None if before is None else grading.failure(before)
        if failure is not None:
            self.failed_before = retry_failed or failure.cause == Cause.JUDGE_SILENT.value

    @property
    def has_reply(self) -> bool:
        """Whether the judge said something about the answer, be it readable or not."""
        reply = self._store.find(self._prediction.key, self._digest)
        return reply is not None and reply.failure is None

    @property
    def failure(self) -> Failure | None:
        """Why the judge said nothing; None if it did, or was not asked."""
        reply = self._store.find(self._prediction.key, self._digest)
        return None if reply is None else reply.failure

    def make(self, task: Benchmark, judge: JudgeClient | None) -> Call:
        """Asks for what is not stored, and returns itself.

        Args:
            task: The judged task.
            judge: The judge; None if nothing may be asked.

        Raises:
            JudgeError: the judge takes no calls.
            NotStoredError: there is no judge, and a reply is missing.
        """
        self._judge = judge
        key = self._prediction.key
        try:
            text = task.ask_judge(self, self._prediction)
        except UnansweredError as error:
            stored = self._store.find(key, self._digest)
            told = {"cause": error.cause.value, "message": str(error)}
            if stored is None or stored.error != told:
                self._store.add(key, self._digest, "", told)
            return self
        stored = self._store.find(key, self._digest)
        if stored is None or stored.failure or stored.content != text:  # see `ReplyStore`
            self._store.add(key, self._digest, text)
        return self

    def reply(self, request: JudgeRequest) -> str:
        """The stored reply to a request, or that of the endpoint.

        Raises:
            JudgeError: the judge takes no calls.
            NotStoredError: there is no judge, and no reply is stored.
            UnansweredError: the judge gave no reply to it, now or before.
        """
        key, digest = self._prediction.key, hash_request(request)
        stored = None if self.failed_before else self._store.find(key, digest)
        if stored is not None:
            if stored.failure is not None:
                raise UnansweredError(stored.failure.message, Cause(stored.failure.cause))
            return stored.content
        if self._judge is None:
            raise NotStoredError(key)
        text = self._judge.reply(request)
        self._store.add(key, digest, text)
        return text
