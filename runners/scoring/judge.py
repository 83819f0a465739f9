"""Judged benchmarks: the judge's replies beside the scores, asked for once and kept.

`<task folder>/judge-<model>-<hash>/run-<n>.jsonl` holds one line a call, by question and by the
hash of everything that was asked; `judge.json` beside it says that the replies are complete and
who gave them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tqdm import tqdm

from evals.benchmark import Benchmark
from evals.errors import DataError
from evals.grading import Grading
from evals.reading.files import find_file, require
from evals.records import Cause, Failure, Prediction
from runners.errors import ConfigError, JudgeError
from runners.logs import public_address
from runners.options.score import JudgeOptions
from runners.scoring.endpoint import (
    Budget,
    OpenAIJudge,
    Price,
    estimate_prompt_tokens,
)
from runners.scoring.replies import Call, NotStoredError, ReplyStore, run_path
from runners.signals import Interruption
from runners.storage.files import is_there, sha256_of_file, sha256_of_json, write_json
from runners.storage.lock import FolderLock
from runners.storage.summary import JudgeRecord

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
RECORD_FILE = "judge.json"
_HASH_LENGTH = 8
_LONGEST_NAME = 200
"""Of a model in the name of a folder, which may have 255 characters."""
_MOST_RUNS = 1000
_POLL_S = 0.1
_MIN_SILENT = 3
"""So many answers, or as many as are asked about at a time, without a reply in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """A task as it is scored.

    Attributes:
        task: The task, with its judge's replies if it is a judged one and there are any.
        record: What summaries say about the judge; None if there are no replies of one.
        missing: What it takes to score the task; empty if nothing is missing.
    """

    task: Benchmark
    record: JudgeRecord | None = None
    missing: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether a judge scores the task, be it there or missing."""
        return self.record is not None or bool(self.missing)

    @property
    def scorer_hash(self) -> str:
        """The hash of all that decides how answers are scored."""
        if self.record is None:
            return sha256_of_json(self.task.definition)
        return sha256_of_json({"definition": self.task.definition, "judge": self.record.to_json()})


def judge_answers(
    task: Benchmark, predictions: Mapping[str, Prediction], folder: Path, options: JudgeOptions
) -> Judgment:
    """Returns the task with the replies of its judge, which is asked what it was not asked before.

    Args:
        task: The task.
        predictions: The answers by key.
        folder: The task's folder, in which replies are kept.
        options: Which judge; with `none`, replies that are there are taken.

    Raises:
        ConfigError: there is no key or price for the judge, replies are given as well, or those of
            several judges lie in the folder.
        DataError: a file is missing or malformed.
        JudgeError: the judge gave no reply at all, takes no calls, or the budget is spent.
    """
    if not isinstance(task, Benchmark) or task.grading is None:
        return Judgment(task=task)
    if options.name == "none":
        return _take_stored(task, task.grading, folder, options)
    if task.grading.replies:
        raise ConfigError(
            f"{task.name} is given both replies and judge={options.name}. Leave one of them out."
        )
    if not predictions:
        raise DataError(f"{task.name} has no answer that a judge could grade. Answer it first.")
    return _ask(task, task.grading, predictions, folder, options)


def _take_stored(
    task: Benchmark, grading: Grading, folder: Path, options: JudgeOptions
) -> Judgment:
    if grading.replies:
        if options.model not in (None, grading.model):
            raise ConfigError(
                f"`judge.model` is {options.model}, but replies are given of {grading.model}, as "
                f"`tasks.{task.name}.judge` says. Name the model that gave them there, and leave "
                "judge.model out."
            )
        record = JudgeRecord(
            model=grading.model,
            prompt_sha256=_hash_text(grading.prompt),
            replies_sha256=[sha256_of_file(find_file(path)) for path in grading.replies],
        )
        return Judgment(task=task, record=record)
    records = {
        place: _read_record(place) for place in sorted(folder.glob(f"judge-*/{RECORD_FILE}"))
    }
    if options.model is not None:
        others = [record.model for record in records.values()]
        records = {k: v for k, v in records.items() if v.model == options.model}
        if not records and others:
            raise ConfigError(
                f"No replies of {options.model} lie in {folder}, but of {', '.join(others)}. Have "
                "it asked with judge=openai, or name one of these."
            )
    if len(records) > 1:
        names = ", ".join(sorted(f"{r.model} at {r.base_url}" for r in records.values()))
        alike = len({record.model for record in records.values()}) == 1
        one = "judge=openai judge.base_url=URL" if alike else "judge.model=NAME"
        raise ConfigError(f"{folder} has replies of several judges: {names}. Name one with {one}.")
    for place, record in records.items():
        return _with_replies(task, place.parent, record)
    if task.has_annotations:  # there is a way to score it without a judge
        if options.model is not None:
            told = "%s: no replies of %s lie in %s, so that answers are scored without a judge"
            logger.warning(told, task.name, options.model, folder)
        return Judgment(task=task)
    return Judgment(task=task, missing=f"{task.name} {grading.unscored}")


def _read_record(path: Path) -> JudgeRecord:
    is_there(path)  # it may be anyone's
    try:
        content = json.loads(path.read_bytes())
        if not 0 < require(content, "num_runs", int, str(path)) <= _MOST_RUNS:
            raise ValueError(f"`num_runs` must be 1 to {_MOST_RUNS}")
        return JudgeRecord.from_json(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no record of a judge: {error}. Remove it.") from error


def _with_replies(task: Benchmark, place: Path, record: JudgeRecord) -> Judgment:
    replies = [run_path(place, run) for run in range(record.num_runs)]
    return Judgment(task=task.with_replies(record.model, replies), record=record)


def _ask(
    task: Benchmark,
    grading: Grading,
    predictions: Mapping[str, Prediction],
    folder: Path,
    options: JudgeOptions,
) -> Judgment:
    model = options.model or grading.model
    given = options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    address = given.rstrip("/")
    base_url = public_address(address)
    record = JudgeRecord(
        model=model,
        base_url=base_url,
        num_runs=options.num_runs,
        prompt_sha256=_hash_text(grading.prompt),
    )
    place = folder / _folder_name(model, base_url)
    requests = task.judge_requests(predictions)
    if not requests:
        return Judgment(task=task)
    folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(
        place,
        busy="Wait for it; it asks the same judge.",
        elsewhere="results_dir=DIR, or output=DIR where that was given",
    ) as lock:
        for former in (given, address, public_address(given)):
            before = folder / _folder_name(model, former)
            if before.is_dir() and not place.exists():
                before.rename(place)  # earlier versions named it after the password or a last slash
        (place / RECORD_FILE).unlink(missing_ok=True)  # until all replies are there
        with ExitStack() as resources:
            calls = [
                Call(grading, store, predictions[key], request, retry_failed=options.retry_failed)
                for run in range(options.num_runs)
                for store in [resources.enter_context(closing(ReplyStore(place, run, model, lock)))]
                for key, request in requests.items()
            ]
            _ask_all(task, calls, record, options, address)
            _require_replies(calls, record)
        lock.require_held()
        write_json(place / RECORD_FILE, record.to_json())
    return _with_replies(task, place, record)


def _folder_name(model: str, base_url: str) -> str:
    digest = hashlib.sha256(f"{model}\0{base_url}".encode()).hexdigest()[:_HASH_LENGTH]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", model)[:_LONGEST_NAME]
    return f"judge-{name}-{digest}"


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ask_all(
    task: Benchmark,
    calls: Sequence[Call],
    record: JudgeRecord,
    options: JudgeOptions,
    address: str,
) -> None:
    """Asks what is not stored; the address is that of the record, with user and password if any."""
    pending = [call for call in calls if not _is_complete(task, call)]
    pending.sort(key=lambda call: call.failed_before)  # what may fail again holds nothing up
    num_stored = len(calls) - len(pending)
    if not pending:
        logger.info("%s: all %d replies of %s are stored", task.name, num_stored, record.model)
        return
    price = _price(record.model, options)
    most = 1 if task.grading is None else task.grading.max_attempts
    _announce(task.name, pending, num_stored, record, price, options, most)
    budget = Budget(price, options.max_cost)
    judge = OpenAIJudge(record.model, address, _api_key(address, options), options, budget)
    try:
        _run_calls(task, pending, judge, options.num_workers)
    finally:
        judge.close()
        cost = "" if price is None else f", ${budget.spent:.4f}"
        logger.info("%s: %d replies were received%s", task.name, budget.num_calls, cost)


def _is_complete(task: Benchmark, call: Call) -> bool:
    try:
        call.make(task, None)
    except NotStoredError:
        return False
    return True


def _run_calls(
    task: Benchmark, calls: Sequence[Call], judge: OpenAIJudge, num_workers: int
) -> None:
    """Makes all calls.

    An endpoint that takes no calls, or Ctrl-C, ends them once those begun are through. So does one
    that gives no reply to several answers in a row: it is out of order, not they.

    Raises:
        JudgeError: the endpoint takes no calls, or does not reply any more.
        KeyboardInterrupt: after a Ctrl-C; after a second one, calls are left to themselves.
    """
    errors: list[BaseException] = []

    silent_in_a_row = 0

    def fail(error: BaseException) -> None:
        errors.append(error)
        judge.stop()

    def note(call: Call) -> None:
        nonlocal silent_in_a_row
        bar.update()
        failure = call.failure
        if failure is None:
            silent_in_a_row = 0
        elif failure.cause == Cause.JUDGE_SILENT.value and not call.failed_before:
            silent_in_a_row += 1
            if silent_in_a_row >= max(_MIN_SILENT, num_workers):
                fail(_no_replies(failure))

    with (
        tqdm(total=len(calls), desc=f"{task.name}: judge", unit="reply", disable=None) as bar,
        Interruption(signal.SIGINT) as interruption,
        interruption.patience("calls that have begun are finished and stored"),
        ThreadPool(num_workers) as pool,  # whose threads keep no program from ending
    ):
        left = [
            pool.apply_async(call.make, (task, judge), callback=note, error_callback=fail)
            for call in calls
        ]
        while left:
            if interruption.requested:
                judge.stop()
            left[0].wait(_POLL_S)
            left = [call for call in left if not call.ready()]
    if interruption.requested:
        raise KeyboardInterrupt
    if errors:
        raise errors[0]


def _require_replies(calls: Sequence[Call], record: JudgeRecord) -> None:
    """Checks that the judge said something about an answer: without any there is no figure."""
    failure = next((call.failure for call in calls if call.failure is not None), None)
    if failure is None or any(call.has_reply for call in calls):
        return
    if failure.cause == Cause.JUDGE_SILENT.value:
        raise _no_replies(failure)
    raise JudgeError(
        f"{record.model} at {record.base_url} gave no text about any of {len(calls):,} answers: "
        f"{failure.message}. Check judge.model and judge.base_url; judge.retry_failed=true asks "
        "again."
    )


def _no_replies(failure: Failure) -> JudgeError:
    return JudgeError(
        f"{failure.message}. The replies so far are stored; the same command goes on from there."
    )


def _price(model: str, options: JudgeOptions) -> Price | None:
    price = options.price or options.prices.get(model)
    if price is not None:
        return Price(asked=price[0], replied=price[1])
    if options.max_cost is not None:
        raise ConfigError(
            f"judge.max_cost needs the price of {model}, which is not known. Give it in US dollars "
            "per million tokens as judge.price=[ASKED,REPLIED]."
        )
    return None


def _announce(
    name: str,
    pending: Sequence[Call],
    num_stored: int,
    record: JudgeRecord,
    price: Price | None,
    options: JudgeOptions,
    max_attempts: int,
) -> None:
    """Says what will be asked and what it may cost, before anything is.

    That is if each reply can be read, and up to `max_attempts` times as much if none can.

    Raises:
        ConfigError: it may cost more than it is allowed to.
    """
    asked = sum(estimate_prompt_tokens(call.request) for call in pending)
    replied = sum(call.request.max_tokens for call in pending)
    cost = None if price is None else price.of(asked, replied)
    told = "the price is not known" if cost is None else f"at most about ${cost:.2f}"
    if max_attempts > 1:
        most = "" if cost is None else f" (about ${max_attempts * cost:.2f})"
        told += f" if each reply can be read, up to {max_attempts} times as much{most} if none can"
    logger.info(
        "%s: %d calls of %s at %s, %d replies are stored; about %d tokens asked, at most %d "
        "replied: %s",
        name,
        len(pending),
        record.model,
        record.base_url,
        num_stored,
        asked,
        replied,
        told,
    )
    if cost is not None and options.max_cost is not None and cost > options.max_cost:
        raise ConfigError(
            f"Judging {name} may cost about ${cost:.2f}, more than judge.max_cost="
            f"{options.max_cost:g}. Nothing was asked. Raise judge.max_cost to go on."
        )


def _api_key(base_url: str, options: JudgeOptions) -> str:
    key = os.environ.get(options.api_key_env, "").strip()
    if not key and base_url == OPENAI_URL:
        raise ConfigError(
            f"The variable {options.api_key_env} must hold the key of {OPENAI_URL}, but is empty. "
            "Set it, or name another endpoint with judge.base_url=URL."
        )
    return key or "none"  # the client insists on one, where the endpoint needs none too
