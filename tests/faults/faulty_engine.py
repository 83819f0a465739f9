"""Engines that fail where a test says so; put into a worker with `engine=faulty`."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llava.generation.packed import PackedEngine
from llava.generation.plan import Pack
from llava.generation.preprocess import PreparedImage
from llava.generation.request import Completion, FailureCause, ImageProbe, Request, RequestFailure


class FaultyEngine(PackedEngine):
    """The packed engine on a model that fails over some questions, together or alone.

    Args:
        parts: Of `PackedEngine`.
        fault: `raise`, `hang`, `exit`, `kill`, `freeze`, `oom`, or `none`.
        keys: The questions, separated by commas.
        once: A file that is made at the first fault; from then on there is none.
        slow_worker: Name of a thread-independent marker file; the worker that makes it is slow.
        slowness: How many times slower that worker is.
        log: A file that gets a line an answer: process, item, key.
        probes: Whether questions fail when their images are probed, too.
        options: Of `PackedEngine`.
    """

    def __init__(
        self,
        *parts: Any,
        fault: str = "none",
        keys: str = "",
        once: str | None = None,
        slow_worker: str | None = None,
        slowness: float = 1.0,
        log: str | None = None,
        probes: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*parts, **options)
        self._fault = fault
        self._keys = frozenset(keys.split(","))
        self._once = once
        self._slowness = slowness if slow_worker and _takes(slow_worker) else 1.0
        self._log = log
        self._probes = probes
        self._num_items = 0
        answer = self.sequential.answer
        self.sequential.answer = lambda request, *a, **k: (  # type: ignore[method-assign]
            self._fail_alone(request) or answer(request, *a, **k)
        )

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """As the packed engine does, more slowly if this is the slow worker."""
        started = time.perf_counter()
        results = list(super().run(requests)) if self._slowness > 1 else super().run(requests)
        if self._slowness > 1:
            time.sleep((self._slowness - 1) * (time.perf_counter() - started))
        self._num_items += 1
        prompts = {request.key: zlib.crc32(request.prompt_ids.tobytes()) for request in requests}
        for result in results:
            if self._log is not None:
                # keys are unique within a task; with the prompt they are over all tasks
                question = f"{result.key}/{prompts[result.key]}"
                _append(self._log, f"{os.getpid()} {self._num_items} {question}\n")
            yield result

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        """As the packed engine does, where no fault is asked for."""
        if self._probes and request.key in self._keys:
            self._fail()
        return super().probe(request)

    def _decode(self, pack: Pack, prepared: dict[str, PreparedImage]) -> Any:
        if self._keys & {request.key for request in pack.requests}:
            self._fail()
        return super()._decode(pack, prepared)

    def _fail_alone(self, request: Request) -> RequestFailure | None:
        if request.key not in self._keys:
            return None
        try:
            self._fail()
        except torch.OutOfMemoryError as error:
            cause, message = FailureCause.OUT_OF_MEMORY, str(error)
        except RuntimeError as error:
            cause, message = FailureCause.ERROR, str(error)
        else:
            return None
        return RequestFailure(key=request.key, cause=cause, message=message)

    def _fail(self) -> None:
        if self._once is not None and not _takes(self._once):
            return
        if self._fault == "raise":
            raise RuntimeError("a fault of the test")
        if self._fault == "oom":
            raise torch.OutOfMemoryError("a fault of the test")
        if self._fault == "hang":
            time.sleep(3600)
        if self._fault == "exit":
            os._exit(7)
        if self._fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)


def _takes(marker: str) -> bool:
    """Whether this process is the first to make the file."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _append(path: str, line: str) -> None:
    """Writes a line that no other process's line can get into."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
