"""What a judge model is asked, and its stored replies, in this project's format or as released."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

from evals.errors import DataError
from evals.reading.files import find_file, read_json, read_jsonl, require, require_id
from evals.records import Cause, Failure

_CATEGORY_PREFIX = "llava_bench_"
"""What LLaVA's reviews put before the category of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest:
    """One call of a judge model.

    Attributes:
        prompt: The user message.
        system: The system message; empty for none.
        temperature: Sampling temperature.
        max_tokens: Longest reply.
    """

    prompt: str
    system: str = ""
    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """One reply of a judge, as it stands on a line of this project's reply files.

    Attributes:
        question_id: The question's id as text.
        run: The number of the judge's run, from 0.
        model: The judge's name; empty in files that do not say.
        content: The reply; empty where there is none.
        request_sha256: Hash of the request that it answers; empty in files that do not say.
        error: Cause and message where the judge gave no reply; empty where it gave one.
        category: The category of the question that it says it is about; empty where it says none.
        answer: The answer that it says it is about; None where it says none.
        answer_id: The id of the answer that it says it is about; empty where it says none.
    """

    question_id: str
    run: int
    model: str
    content: str
    request_sha256: str = ""
    error: Mapping[str, str] = field(default_factory=dict)
    category: str = ""
    answer: str | None = None
    answer_id: str = ""

    @property
    def failure(self) -> Failure | None:
        """Why there is no reply; None if there is one."""
        if not self.error:
            return None
        return Failure(
            key=self.question_id, cause=self.error["cause"], message=self.error["message"]
        )

    def to_line(self) -> dict[str, Any]:
        """The object that a reply file holds for this reply."""
        line = asdict(self)
        for name in ("error", "category", "answer", "answer_id"):
            if not line[name]:
                del line[name]
        return line


def hash_request(request: JudgeRequest) -> str:
    """The hash of everything that a judge is asked; a reply belongs to one."""
    content = json.dumps(asdict(request), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def read_replies(paths: Sequence[str | Path]) -> list[JudgeReply]:
    """The replies in one or several files.

    A `.json` file holds MM-Vet's grades, an object with lists of models and contents by question,
    or MathVista's answers with an `extraction` each. A JSONL file holds this project's replies, or
    LLaVA-Bench's reviews, one run a file: the first such file is run 0. A file with all replies of
    a run that a file before it has is of further runs, whatever its lines say.

    Raises:
        DataError: a file is missing or malformed, or has only some replies of a run before it.
    """
    replies: list[JudgeReply] = []
    there: set[tuple[int, str]] = set()
    for run, path in enumerate(paths):
        found = find_file(path)
        if found.name.removesuffix(".gz").endswith(".json"):
            read = _read_grades(found)
        else:
            lines = read_jsonl(found)
            read = [_parse_line(f"{found}:{n}", record, run) for n, record in lines]
        runs = {reply.run for reply in read}
        before = {(earlier, key) for earlier, key in there if earlier in runs}
        again = before & {(reply.run, reply.question_id) for reply in read}
        if again and again != before:
            raise DataError(
                f"{found} has {len(again):,} of the {len(before):,} replies that files before it "
                "have of the same run. Give it all of them, as another run of the judge, or put "
                "corrections in the place of what they correct."
            )
        if again:
            num_runs = 1 + max(run for run, _ in there)
            read = [replace(reply, run=num_runs + reply.run) for reply in read]
        there.update((reply.run, reply.question_id) for reply in read if not reply.failure)
        replies += read
    if not replies:
        raise DataError(f"{', '.join(map(str, paths))} holds no reply. Check the path.")
    return replies


def _read_grades(path: Path) -> list[JudgeReply]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must be an object of grades by question. Fetch the file again.")
    records = {key: record for key, record in content.items() if isinstance(record, dict)}
    if any("extraction" in record for record in records.values()):
        return [
            _parse_extraction(f"{path}: {key}", key, record)
            for key, record in records.items()
            if "extraction" in record  # the judge has not come to the others
        ]
    replies = []
    for key, record in content.items():
        where = f"{path}: {key}"
        models = require(record, "model", list, where)
        contents = require(record, "content", list, where)
        if len(models) != len(contents):
            raise DataError(f"{where}: `model` and `content` must be of one length. Mend the file.")
        replies += [
            JudgeReply(question_id=key, run=run, model=str(model), **_said(text, where))
            for run, (model, text) in enumerate(zip(models, contents, strict=True))
        ]
    return replies


def _parse_extraction(where: str, key: str, record: dict[str, Any]) -> JudgeReply:
    text = require(record, "extraction", (str, NoneType), where)
    answer = record.get("response")
    answer = answer if isinstance(answer, str) else None
    return JudgeReply(question_id=key, run=0, model="", answer=answer, **_said(text, where))


def _parse_line(where: str, record: dict[str, Any], run: int) -> JudgeReply:
    return JudgeReply(
        question_id=str(require_id(record, "question_id", where)),
        run=require(record, "run", int, where) if "run" in record else run,
        model=str(record.get("model") or ""),
        request_sha256=str(record.get("request_sha256") or ""),
        category=str(record.get("category") or "").removeprefix(_CATEGORY_PREFIX),
        answer_id=str(record.get("answer2_id") or ""),  # `answer1_id` is that of the reference
        **_said(require(record, "content", (str, NoneType), where), where, record.get("error")),
    )


def _said(content: Any, where: str, error: Any = None) -> dict[str, Any]:
    """What a stored reply says, or why there is none: a judge that refuses leaves null."""
    if isinstance(error, dict) and error:
        told = {name: str(error.get(name, "")) for name in ("cause", "message")}
        return {"content": "", "error": told}
    if content is None:
        told = {"cause": Cause.JUDGE_REFUSED.value, "message": f"{where} holds no reply"}
        return {"content": "", "error": told}
    return {"content": str(content)}


def select_replies(
    replies: Iterable[JudgeReply],
    requests: Mapping[str, JudgeRequest],
    *,
    judge: str,
    task: str,
    remedy: str,
) -> dict[str, list[JudgeReply]]:
    """The replies of the model `judge` to each request, in the order of the runs.

    A reply to another request, to an answer that has changed since, does not count, but its run
    does; one that names no model is taken for the judge's. Of several replies of one run the last
    one counts. `task` and `remedy`, what to do where some are missing, are for messages.

    Raises:
        DataError: replies are missing, or are of another model.
    """
    found: defaultdict[int, dict[str, JudgeReply]] = defaultdict(dict)
    for reply in replies:
        if reply.model not in ("", judge):
            raise DataError(
                f"{task}: a stored reply is of the judge {reply.model!r}, but `judge` is "
                f"{judge!r}. Scores of different judges cannot be compared; name the one that gave "
                "the replies by the benchmark's option `judge`."
            )
        request, there = requests.get(reply.question_id), found[reply.run]
        if request and reply.request_sha256 in ("", hash_request(request)):
            there[reply.question_id] = reply
    runs = [found[run] for run in sorted(found)] or [{}]
    missing = [(run, key) for run, there in enumerate(runs) for key in requests if key not in there]
    if missing:
        run, key = missing[0]
        raise DataError(
            f"{task}: {len(missing):,} of {len(runs) * len(requests):,} replies of the judge "
            f"{judge} are missing or are to other answers (for example to question {key} in run "
            f"{run}). {remedy}"
        )
    return {key: [there[key] for there in runs] for key in requests}
