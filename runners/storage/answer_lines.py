"""Lines of `predictions.jsonl` and `trace.jsonl`: what was answered, and how it came about.

`predictions.jsonl` is LLaVA's answer format. Nothing in it depends on how an answer was computed,
so that interrupted, repeated and differently packed runs end in the same bytes; what does depend
on it stands in `trace.jsonl`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from evals.records import Failure, Prediction, Sample
from llava.generation.request import Completion
from runners.storage.files import sha256_of_json
from runners.storage.long_names import shorten_names

ANSWER_ID_LENGTH = 22


def answer_id(key: str, text: str, model_id: str) -> str:
    r"""Returns the id of an answer: the first 22 hex digits of a SHA-256.

    The hashed bytes are the three strings in UTF-8, lone surrogates passed through, with a zero
    byte between them: `key\0text\0model_id`.

    >>> answer_id("1", "cat", "llava-demo")
    '05875b1f6e569c10759722'
    """
    content = "\0".join((key, text, model_id)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:ANSWER_ID_LENGTH]


def result_line(sample: Sample, result: Completion | Failure, model_id: str) -> dict[str, Any]:
    """Returns the line of a question, whatever came of it."""
    if isinstance(result, Completion):
        return answer_line(sample, result, model_id)
    return failure_line(sample, result, model_id)


def answer_line(sample: Sample, completion: Completion, model_id: str) -> dict[str, Any]:
    """Returns the line of an answered question."""
    metadata = {
        "key": sample.key,
        "finish_reason": completion.finish_reason,
        "num_prompt_tokens": completion.num_prompt_tokens,
        "num_new_tokens": len(completion.token_ids),
    }
    return _line(sample, completion.text, model_id, metadata)


def failure_line(sample: Sample, failure: Failure, model_id: str) -> dict[str, Any]:
    """Returns the line of a question that could not be answered; its text is empty.

    Very long names in its message are shortened.
    """
    error = {"cause": str(failure.cause), "message": shorten_names(failure.message)}
    return _line(sample, "", model_id, {"key": sample.key, "error": error})


def imported_line(prediction: Prediction, model_id: str) -> dict[str, Any]:
    """Returns the line of an answer from elsewhere; how it came about is not known."""
    unknown = dict.fromkeys(("finish_reason", "num_prompt_tokens", "num_new_tokens"))
    there = {"answer_id": "".join(prediction.answer_ids[:1])}
    return _line(prediction, prediction.text, model_id, {"key": prediction.key, **unknown, **there})


def _line(
    question: Sample | Prediction, text: str, model_id: str, metadata: dict[str, Any]
) -> dict[str, Any]:
    return {
        "question_id": question.question_id,
        "prompt": question.prompt,
        "text": text,
        "answer_id": answer_id(question.key, text, model_id),
        "model_id": model_id,
        "metadata": metadata,
    }


def key_of(line: Mapping[str, Any]) -> str | None:
    """Returns the key of a line, None if it is no line of a run."""
    metadata = line.get("metadata")
    key = metadata.get("key") if isinstance(metadata, dict) else None
    return key if isinstance(key, str) else None


def is_answer_line(line: Mapping[str, Any]) -> bool:
    """Whether an object is a line of a run: it has all fields, and its id is that of its content.

    >>> is_answer_line({"question_id": 1, "text": "cat"})
    False
    """
    key = key_of(line)
    texts = [line.get(name) for name in ("prompt", "text", "answer_id", "model_id")]
    if key is None or "question_id" not in line or not all(isinstance(t, str) for t in texts):
        return False
    error = line["metadata"].get("error", {"cause": "", "message": ""})
    if not isinstance(error, dict):
        return False
    if not all(isinstance(error.get(name), str) for name in ("cause", "message")):
        return False
    return bool(line["answer_id"] == answer_id(key, line["text"], line["model_id"]))


def is_trace_line(line: Mapping[str, Any]) -> bool:
    """Whether an object is a line of a run's trace."""
    return (
        isinstance(line.get("key"), str)
        and isinstance(line.get("attempts"), int)
        and all(isinstance(line.get(name), list) for name in ("image_sha256", "image_stat"))
    )


class LineFacts(NamedTuple):
    """What the rule about good lines needs of a line of `predictions.jsonl`.

    Attributes:
        key: Of its question.
        sha256: The hash of its content, which its trace is to name.
        is_failure: Whether it records a failure.
        is_plain: Whether it is known to stand there, byte for byte, as a program writes it.
    """

    key: str
    sha256: str
    is_failure: bool
    is_plain: bool = False


def line_facts(line: Mapping[str, Any]) -> LineFacts | None:
    """Returns the facts of an object; None if it is no line of a run."""
    if not is_answer_line(line):
        return None
    return LineFacts(line["metadata"]["key"], sha256_of_json(line), is_failure(line))


def is_good(facts: LineFacts | None, named: Mapping[str, object]) -> TypeGuard[LineFacts]:
    """Whether a line is as a program wrote it and counts; this is the only rule for that.

    It has the id of its content, and the trace of its question, which is the last one if there were
    several attempts, names this very line.

    Args:
        facts: Of the line; None if it is no line of a run.
        named: The hash that the trace of each key names.
    """
    return facts is not None and named.get(facts.key) == facts.sha256


def is_failure(line: Mapping[str, Any]) -> bool:
    """Whether a line records a failure."""
    return "error" in line["metadata"]


def count_replays(answers: Iterable[tuple[bool, bool]]) -> dict[str, int]:
    """Returns how many answers were computed again, alone, and how many of these changed.

    Of each answer is given whether it was computed again, and whether that changed it.
    """
    flipped = [is_flipped for is_replayed, is_flipped in answers if is_replayed]
    return {"recomputed": len(flipped), "flipped": sum(flipped)}


def read_failure(line: Mapping[str, Any]) -> Failure:
    """Returns the failure that a line records."""
    error = line["metadata"]["error"]
    return Failure(key=line["metadata"]["key"], cause=error["cause"], message=error["message"])


def read_prediction(line: Mapping[str, Any]) -> Prediction:
    """Returns the answer that a line records.

    One from elsewhere has the id that it has there as well. Where that is not known, its reviews
    cannot be told from those of other answers.
    """
    metadata = line["metadata"]
    ids = (line.get("answer_id"), metadata.get("answer_id"))
    are_all = ids[1] or metadata.get("finish_reason") is not None
    return Prediction(
        key=metadata["key"],
        question_id=line["question_id"],
        prompt=line["prompt"],
        text=line["text"],
        answer_ids=tuple(str(each) for each in ids if each and are_all),
    )


def trace_line(
    result: Completion | Failure,
    *,
    worker: str | None,
    attempts: int,
    image_stat: Sequence[Any] = (),
) -> dict[str, Any]:
    """Returns the trace of one attempt.

    Args:
        result: What came of the question.
        worker: Who was asked; None where nobody was.
        attempts: How often the question was tried, this time included.
        image_stat: The state of each image's file before it was opened: size, time of change in
            ns, ctime in ns and inode; older traces hold the first two.
    """
    completion = result if isinstance(result, Completion) else None
    return {
        "key": result.key,
        "min_margin": completion.min_margin if completion else None,
        "replayed": completion.replayed if completion else False,
        "flipped": completion.flipped if completion else False,
        "worker": worker,
        "latency_s": round(completion.latency_s, 6) if completion else None,
        "attempts": attempts,
        "image_sha256": list(completion.image_sha256) if completion else [],
        "image_stat": list(image_stat),
    }
