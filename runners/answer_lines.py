"""Lines of `predictions.jsonl` and `trace.jsonl`: what was answered, and how it came about.

`predictions.jsonl` is LLaVA's answer format. Nothing in it depends on how an answer was computed,
so that interrupted, repeated and differently packed runs end in the same bytes; what does depend
on it stands in `trace.jsonl`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from evals.records import Failure, Prediction, Sample
from llava.generation.request import Completion, RequestFailure

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
    """Returns the line of a question that could not be answered; its text is empty."""
    error = {"cause": failure.cause, "message": failure.message}
    return _line(sample, "", model_id, {"key": sample.key, "error": error})


def _line(sample: Sample, text: str, model_id: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "question_id": sample.question_id,
        "prompt": sample.prompt,
        "text": text,
        "answer_id": answer_id(sample.key, text, model_id),
        "model_id": model_id,
        "metadata": metadata,
    }


def key_of(line: Mapping[str, Any]) -> str | None:
    """Returns the key of a line, None if it is no line of a run."""
    metadata = line.get("metadata")
    key = metadata.get("key") if isinstance(metadata, dict) else None
    return key if isinstance(key, str) else None


def is_failure(line: Mapping[str, Any]) -> bool:
    """Whether a line records a failure."""
    return "error" in line["metadata"]


def read_failure(line: Mapping[str, Any]) -> Failure:
    """Returns the failure that a line records."""
    error = line["metadata"]["error"]
    return Failure(key=line["metadata"]["key"], cause=error["cause"], message=error["message"])


def read_prediction(line: Mapping[str, Any]) -> Prediction:
    """Returns the answer that a line records."""
    return Prediction(
        key=line["metadata"]["key"],
        question_id=line["question_id"],
        prompt=line["prompt"],
        text=line["text"],
    )


def image_stats(sample: Sample) -> list[list[int] | None]:
    """Returns size and time of change of each image's file; None for one that is not there."""
    stats: list[list[int] | None] = []
    for image in sample.images:
        try:
            stat = image.path.stat()
        except (OSError, ValueError):
            stats.append(None)
        else:
            stats.append([stat.st_size, stat.st_mtime_ns])
    return stats


def trace_line(
    sample: Sample,
    result: Completion | RequestFailure | Failure,
    *,
    worker: str | None,
    attempts: int,
) -> dict[str, Any]:
    """Returns the trace of one attempt; `worker` is None where no worker was asked."""
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
        "image_stat": image_stats(sample),
    }
