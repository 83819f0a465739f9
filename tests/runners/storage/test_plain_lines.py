from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from evals.records import Sample
from llava.generation.request import Completion
from runners.storage.answer_lines import (
    answer_id,
    answer_line,
    is_trace_line,
    line_facts,
    trace_line,
)
from runners.storage.files import json_line, parse_line, sha256_of_json
from runners.storage.plain_lines import attempt_of, read_line, read_trace

TEXTS = [
    "yes",
    "",
    "two words, and 100% more: {'a'} [b] ~",
    'in "quotes"',
    "back\\slash",
    "two\nlines\tand a bell\x07",
    "\x7f",
    "Größe 大 \U0001f600",
    "half a character \ud83d",
    "not an escape: \\u0041",
]


def line_of(
    text: str = "yes", prompt: str = "What?\nIn one word.", key: str = "1"
) -> dict[str, Any]:
    sample = Sample(
        key=key, question_id=int(key) if key.isdecimal() else key, text="", prompt=prompt
    )
    return answer_line(sample, completion(key, text), "llava-demo")


def completion(key: str, text: str, **changes: Any) -> Completion:
    given = {"min_margin": 0.25, "image_sha256": ("0f" * 32,)} | changes
    return Completion(
        key=key,
        token_ids=(5, 2),
        text=text,
        finish_reason="stop",
        num_prompt_tokens=635,
        latency_s=1e-7,
        **given,
    )


def trace_of(**changes: Any) -> dict[str, Any]:
    stat = [[0, 1795938774254721664, 1795938774254721664, 3073124]]
    trace = trace_line(completion("1", "yes"), worker="local-0", attempts=1, image_stat=stat)
    return {**trace, "line_sha256": "ab" * 32} | changes


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["text", "prompt", "key"])
def test_facts_of_a_written_line_are_those_of_its_object(text: str, place: str) -> None:
    line = line_of(**{place: text})
    facts = line_facts(line)
    assert facts is not None
    for named in ({facts.key: facts.sha256}, {facts.key: "0" * 64}, {}):
        read = read_line(json_line(line).encode(), named)
        assert read is not None
        assert read[:3] == facts[:3]
        assert read.is_plain


def test_most_lines_are_known_to_be_as_written_without_parsing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = line_of()
    sha256 = sha256_of_json(line)
    monkeypatch.delattr("runners.storage.plain_lines.parse_line")
    facts = read_line(json_line(line).encode(), {"1": sha256})
    assert facts == ("1", sha256, False, True)
    with pytest.raises(NameError):
        read_line(json_line(line).encode(), {"1": "0" * 64})


def with_id(line: dict[str, Any]) -> dict[str, Any]:
    key = line["metadata"]["key"]
    return {**line, "answer_id": answer_id(key, line["text"], line["model_id"])}


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"yes"', '"no"'),
        lambda text: text.replace("635", "636"),
        lambda text: text.replace("635", "0635"),
        lambda text: text.replace("635", "635.0"),
        lambda text: text.replace("635", "9" * 30),
        lambda text: text.replace("635", "9" * 5000),
        lambda text: text.replace('"stop"', '"length"'),
        lambda text: text.replace('"stop"', "null"),
        lambda text: text.replace("What", "Who"),
        lambda text: text.replace("What", "\\u0057hat"),
        lambda text: text.replace('"yes"', '"\\u0079es"'),
        lambda text: text.replace('"yes"', '"y\\qes"'),
        lambda text: text.replace('"yes"', '"yes", "text": "no"'),
        lambda text: text.replace(", ", ",  "),
        lambda text: text.replace(" ", ""),
        lambda text: text.replace('"question_id": 1', '"question_id": true'),
        lambda text: text.replace('"question_id": 1', '"question_id": 01'),
        lambda text: text.replace('"key": "1"', '"key": 1'),
        lambda text: text.replace("}}", '}, "own": 1}'),
        lambda text: text[:40] + "\n",
        lambda text: json.dumps(with_id({**json.loads(text), "text": "no"})) + "\n",
        lambda text: json.dumps(json.loads(text), sort_keys=True) + "\n",
        lambda _: "\n",
        lambda _: "[]\n",
    ],
)
def test_edited_line_is_judged_as_its_object_is(edit: Callable[[str], str]) -> None:
    named = {"1": sha256_of_json(line_of())}
    content = edit(json_line(line_of()))
    assert content != json_line(line_of())
    record = parse_line(content.encode())
    facts = None if record is None else line_facts(record)
    read = read_line(content.encode(), named)
    assert (read and read[:3]) == (facts and facts[:3])
    if read is not None and record is not None:
        assert read.is_plain == (json_line(record) == content)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_margin": None, "latency_s": None, "worker": None},
        {"min_margin": 1e-05, "latency_s": 12},
        {"min_margin": float("nan")},
        {"replayed": True, "flipped": True, "attempts": 3},
        {"replayed": 1, "attempts": True},
        {"attempts": "1"},
        {"attempts": -1},
        {"image_stat": [], "image_sha256": []},
        {"image_stat": [None, [1, 2]], "image_sha256": ["0f" * 32, "1e" * 32]},
        {"image_stat": None},
        {"image_sha256": ["short"]},
        {"line_sha256": None},
        {"line_sha256": 5},
        {"key": 'a "quoted" key'},
        {"key": "大"},
        {"key": 5},
        {"own": 1},
    ],
)
def test_facts_of_a_trace_are_those_of_its_object(changes: dict[str, Any]) -> None:
    trace = trace_of(**changes)
    facts = read_trace(json_line(trace).encode())
    if not is_trace_line(trace):
        assert facts is None
        return
    assert facts is not None
    named = trace["line_sha256"] if isinstance(trace["line_sha256"], str) else None
    assert facts[:3] == (trace["key"], named, attempt_of(trace))
    assert json.loads(facts.images) == trace["image_sha256"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"attempts": 1', '"attempts": 01'),
        lambda text: text.replace('"attempts": 1', '"attempts": 1.2.3'),
        lambda text: text.replace("0.25", "0.2.5"),
        lambda text: text.replace("0.25", "00.25"),
        lambda text: text.replace("[[0,", "[[00,"),
        lambda text: text.replace("false", "False"),
        lambda text: text.replace("}\n", "\n"),
        lambda text: text.replace('"key"', '"kee"'),
    ],
)
def test_broken_trace_is_none(edit: Callable[[str], str]) -> None:
    content = edit(json_line(trace_of()))
    assert content != json_line(trace_of())
    assert read_trace(content.encode()) is None
