"""The replies of a judge on disk, and the calls that look there before they ask."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from pathlib import Path

from evals.benchmark import Benchmark
from evals.grading import JudgeClient
from evals.reading.replies import JudgeReply, JudgeRequest, hash_request
from evals.records import Prediction
from runners.storage.files import json_line, recover_jsonl

logger = logging.getLogger(__name__)


class NotStoredError(Exception):
    """A reply is needed that is not stored."""


def run_path(place: Path, run: int) -> Path:
    """The file with the replies of one run."""
    return place / f"run-{run}.jsonl"


class ReplyStore:
    """The replies of one run of a judge, appended as they come; safe to share between threads.

    A line carries the hash of what was asked. Where a benchmark asks again, because a reply could
    not be read, the last reply is stored under the hash of the first call too: scoring takes it
    from there, and the same calls made again find all their replies.

    Args:
        place: The folder.
        run: The number of the run, from 0.
        model: The judge.
    """

    def __init__(self, place: Path, run: int, model: str) -> None:
        self.model = model
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
            (str(line.get("question_id")), str(line.get("request_sha256"))): str(line["content"])
            for line in found.records
            if isinstance(line.get("content"), str)  # of several replies the last one counts
        }
        self._path = path
        self._is_closed = False

    def find(self, question_id: str, digest: str) -> str | None:
        """The last reply to a request about a question."""
        return self._found.get((question_id, digest))

    def add(self, question_id: str, digest: str, content: str) -> None:
        """Appends a reply, so that it outlives this process.

        Raises:
            ValueError: the store is closed, and somebody else may be writing to the file by now.
        """
        reply = JudgeReply(
            question_id=question_id,
            run=self._run,
            model=self.model,
            content=content,
            request_sha256=digest,
        )
        with self._lock:
            if self._is_closed:
                raise ValueError(f"{self._path} is closed: a reply came too late.")
            self._found[question_id, digest] = content
            # Opened anew each time: a reply takes seconds, and no file is left to be closed.
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(json_line(asdict(reply)).encode())

    def close(self) -> None:
        """Takes no further reply."""
        with self._lock:
            self._is_closed = True


class Call:
    """What one run of the judge has to say about one answer.

    Args:
        store: Where replies are kept.
        prediction: The answer.
        request: What is asked first.
    """

    def __init__(self, store: ReplyStore, prediction: Prediction, request: JudgeRequest) -> None:
        self.model = store.model
        self.request = request
        self._store = store
        self._prediction = prediction
        self._judge: JudgeClient | None = None

    def make(self, task: Benchmark, judge: JudgeClient | None) -> None:
        """Asks for what is not stored.

        Args:
            task: The judged task.
            judge: The judge; None if nothing may be asked.

        Raises:
            JudgeError: the judge gives no reply.
            NotStoredError: there is no judge, and a reply is missing.
        """
        self._judge = judge
        text = task.ask_judge(self, self._prediction)
        digest = hash_request(self.request)
        if self._store.find(self._prediction.key, digest) != text:  # see `ReplyStore`
            self._store.add(self._prediction.key, digest, text)

    def reply(self, request: JudgeRequest) -> str:
        """The stored reply to a request, or that of the endpoint."""
        key, digest = self._prediction.key, hash_request(request)
        stored = self._store.find(key, digest)
        if stored is not None:
            return stored
        if self._judge is None:
            raise NotStoredError(key)
        text = self._judge.reply(request)
        self._store.add(key, digest, text)
        return text
