"""Lines of `predictions.jsonl` and `trace.jsonl` in the form that programs write, read quickly.

A run of half a million answers is opened in seconds only if a line costs a few microseconds. What a
program wrote has its fields in one order and each value in one form: it is taken apart by one
regular expression, and the canonical JSON whose hash the trace names is put together from its
parts. A line in any other form is parsed; both ways give the same facts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from evals.reading.files import collection_paused
from runners.storage.answer_lines import (
    ANSWER_ID_LENGTH,
    LineFacts,
    is_trace_line,
    line_facts,
)
from runners.storage.files import is_there, json_line, parse_line

_PLAIN = rb"[ !#-\[\]-~]*"
_PROMPT = _PLAIN + rb'(?:\\(?:["\\bfnrt]|u[0-9a-f]{4})' + _PLAIN + rb")*"
_WHOLE = rb"(?:0|-?[1-9]\d{0,18})"
_REAL = rb"(?:null|-?(?:0|[1-9]\d{0,18})(?:\.\d+)?(?:e[+-]?\d+)?)"
_FLAG = rb"(true|false)"


def _list_of(item: bytes) -> bytes:
    return rb"\[(?:" + item + rb"(?:, " + item + rb")*)?\]"


_ANSWER = re.compile(
    rb'\{"question_id": (' + _WHOLE + rb'|"' + _PLAIN + rb'"), "prompt": "(' + _PROMPT
    + rb')", "text": "(' + _PLAIN + rb')", "answer_id": "([0-9a-f]+)", "model_id": "(' + _PLAIN
    + rb')", "metadata": \{"key": "(' + _PLAIN + rb')", "finish_reason": "([a-z]+)", '
    + rb'"num_prompt_tokens": (' + _WHOLE + rb'), "num_new_tokens": (' + _WHOLE + rb")\}\}\n"
)  # fmt: skip
_CANONICAL = (
    b'{"answer_id":"%b","metadata":{"finish_reason":"%b","key":"%b","num_new_tokens":%b,'
    b'"num_prompt_tokens":%b},"model_id":"%b","prompt":"%b","question_id":%b,"text":"%b"}'
)
_TRACE = re.compile(
    rb'\{"key": "(' + _PLAIN + rb')", "min_margin": ' + _REAL + rb', "replayed": ' + _FLAG
    + rb', "flipped": ' + _FLAG + rb', "worker": (?:null|"' + _PLAIN + rb'"), "latency_s": ' + _REAL
    + rb', "attempts": (' + _WHOLE + rb'), "image_sha256": (' + _list_of(rb'"[0-9a-f]{64}"')
    + rb'), "image_stat": (' + _list_of(rb"(?:null|" + _list_of(_WHOLE) + rb")")
    + rb'), "line_sha256": "([0-9a-f]{64})"\}\n'
)  # fmt: skip
NO_IMAGES = b"[]"
_NUM_ATTEMPTS = 4096  # kept by content: those of an image's questions are alike and stand together


class Attempt(NamedTuple):
    """What the last attempt at a question left in its trace, as far as a session asks for it.

    Attributes:
        number: Which attempt it was, from 1.
        is_replayed: Whether the answer was computed again, alone.
        is_flipped: Whether that changed it.
        image_stat: The state of each image's file.
    """

    number: int
    is_replayed: bool
    is_flipped: bool
    image_stat: list[Any]


class TraceFacts(NamedTuple):
    """What is needed of a line of `trace.jsonl`: of which question, which line it names, the rest.

    `line_sha256` is None where it names none; `images` is the list of their hashes, as JSON.
    """

    key: str
    line_sha256: str | None
    attempt: Attempt
    images: bytes


def read_line(line: bytes, named: Mapping[str, str | None]) -> LineFacts | None:
    """Returns the facts of a line; None if it is no line of a run.

    Args:
        line: The bytes, with the line feed.
        named: The hash that the trace of each key names.
    """
    found = _ANSWER.fullmatch(line)
    if found is not None:
        question_id, prompt, text, given, model_id, key, reason, num_prompt, num_new = (
            found.groups()
        )
        parts = (given, reason, key, num_new, num_prompt, model_id, prompt, question_id, text)
        name, sha256 = key.decode(), hashlib.sha256(_CANONICAL % parts).hexdigest()
        answer_id = hashlib.sha256(b"\0".join((key, text, model_id))).hexdigest()
        # another hash may also mean that a character of the prompt is written in another form
        if named.get(name) == sha256 and answer_id[:ANSWER_ID_LENGTH] == given.decode():
            return LineFacts(name, sha256, is_failure=False, is_plain=True)
    record = parse_line(line)
    facts = None if record is None else line_facts(record)
    if record is None or facts is None:
        return None
    return facts._replace(is_plain=json_line(record).encode() == line)


def read_trace(line: bytes) -> TraceFacts | None:
    """Returns the facts of a line of a trace, with its line feed; None if it is none."""
    found = _TRACE.fullmatch(line)
    if found is not None:
        key, replayed, flipped, number, images, stat, sha256 = found.groups()
        attempt = _plain_attempt(number, replayed, flipped, stat)
        return TraceFacts(key.decode(), sha256.decode(), attempt, images)
    record = parse_line(line)
    if record is None or not is_trace_line(record):
        return None
    sha256 = record.get("line_sha256")
    named = sha256 if isinstance(sha256, str) else None
    images = json.dumps(record["image_sha256"]).encode()
    return TraceFacts(record["key"], named, attempt_of(record), images)


def read_image_hashes(path: Path) -> dict[str, bytes]:
    """Returns the hashes of the images that each question was asked about, by key.

    They are those of the last attempt, as JSON: equal ones are equal images, and `NO_IMAGES` is
    that of a failure and of a question without any. The file need not be there.
    """
    if not is_there(path):
        return {}
    shared: dict[bytes, bytes] = {}  # questions about one image are many
    with path.open("rb") as file, collection_paused():
        found = (read_trace(line) for line in file if line.endswith(b"\n"))
        return {each.key: shared.setdefault(each.images, each.images) for each in found if each}


def attempt_of(trace: Mapping[str, Any]) -> Attempt:
    """Returns what a session asks for of a trace."""
    return Attempt(
        number=int(trace["attempts"]),
        is_replayed=bool(trace.get("replayed")),
        is_flipped=bool(trace.get("flipped")),
        image_stat=trace["image_stat"],
    )


@lru_cache(_NUM_ATTEMPTS)
def _plain_attempt(number: bytes, replayed: bytes, flipped: bytes, stat: bytes) -> Attempt:
    return Attempt(int(number), replayed == b"true", flipped == b"true", json.loads(stat))
