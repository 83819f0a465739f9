"""The parts of a run that was answered in shards, joined into the run that they are parts of."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.environment import now
from runners.errors import ConfigError
from runners.options.given import TaskChoice
from runners.options.names import fitting_name
from runners.options.shard import Shard
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import count_replays, is_failure
from runners.storage.answer_store import PREDICTIONS_FILE, TRACE_FILE
from runners.storage.asked import Asked
from runners.storage.files import sha256_of_file, write_jsonl
from runners.storage.identity import describe_differences, differences, require_same_questions
from runners.storage.lock import FolderLock, explaining_disk_errors
from runners.storage.manifest import MANIFEST_FILE, Manifest, other_code, write_manifest
from runners.storage.plain_lines import attempt_of
from runners.storage.specs import read_run_specs
from runners.storage.stored import StoredAnswers, StoredTask, read_run
from runners.storage.summary import Origin

logger = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one run holds of a task.

    Attributes:
        run: The run's name.
        folder: The task's folder in it.
        manifest: What the answers are of.
        answers: Those that count.
    """

    run: str
    folder: Path
    manifest: Manifest
    answers: StoredAnswers


def part_names(merge: Any, run: str) -> list[str]:
    """Returns the names of the runs that are joined.

    Args:
        merge: The names, or how many shards of the run there are.
        run: The name of the run that they are parts of.
    """
    if not isinstance(merge, int):
        return [str(name) for name in dict.fromkeys(merge)]
    shards = (Shard(index=index, count=merge) for index in range(1, merge + 1))
    return [fitting_name(run, shard.suffix) for shard in shards]


def read_part_specs(choice: TaskChoice, runs: Sequence[Path]) -> dict[str, TaskSpec]:
    """Returns the tasks that any of the runs holds, by name; runs without any are logged.

    A part without answers may be no loss: of fewer images than parts, some parts get no question.

    Args:
        choice: The benchmarks that are named; none for all tasks of the runs.
        runs: The folders of the runs.

    Raises:
        ConfigError: none of the runs holds a task.
    """
    there = [path for path in runs if any(path.glob(f"*/{MANIFEST_FILE}"))]
    if not there:
        raise ConfigError(
            f"None of the parts holds answers: {', '.join(map(str, runs))}. Check `merge`, `run` "
            "and `results_dir`."
        )
    for path in runs:
        if path not in there:
            logger.warning("%s holds no answers", path)
    return read_run_specs(choice, *map(read_run, there))


def merge_task(spec: TaskSpec, runs: Sequence[Path], run_dir: Path, *, overwrite: bool) -> Asked:
    """Writes the answers of a task in several runs as those of one run.

    What the one run holds already stays, as far as it is of the same identity: parts that come
    later can be added, and answers that no part has can be asked for in the run itself.

    Args:
        spec: The task.
        runs: The folders of the runs that are the parts; not all need be there.
        run_dir: The folder of the one run.
        overwrite: Set what lies there aside.

    Raises:
        ConfigError: parts are of different identity or contradict each other, the questions have
            changed, or another process writes the run.
        DataError: the questions cannot be read.
        StoreError: the run cannot be written.
    """
    task = spec.build()
    folder = run_dir / task.name
    with FolderLock(folder) as lock:
        paths = [*runs, *([] if overwrite else [run_dir])]
        sources = [part for path in paths if (part := _read_part(path, task.name))]
        if not sources:
            raise ConfigError(f"No part holds {task.name}. Leave it out of `task`.")
        _check_identities(sources, task.name)
        samples = task.samples()
        first = sources[0]
        stored = first.manifest.identity.get("prompts")
        prompts = require_same_questions(first.folder, task, stored, samples)
        lines, traces = _join(sources, task.name)
        asked = [sample.key for sample in samples[: _common_limit(sources, task.name)]]
        _tell_missing(sources, task.name, [key for key in asked if key not in lines])
        lock.require_held()
        with explaining_disk_errors(folder):
            if overwrite:
                lock.set_aside()
            _write(folder, sources, spec, [sample.key for sample in samples], (lines, traces))
    is_limited = len(asked) < len(samples)
    attempts = map(attempt_of, traces.values())
    origin = Origin(
        limited=is_limited,
        limit=len(asked) if is_limited else None,
        batch_check=count_replays((each.is_replayed, each.is_flipped) for each in attempts),
    )
    return Asked(num_questions=len(asked), prompts_hash=prompts, origin=origin)


def _read_part(path: Path, name: str) -> Part | None:
    """What a run holds of a task, None if nothing; files that are being written are left alone."""
    stored = StoredTask(path / name)
    if stored.manifest is None:
        return None
    if stored.manifest.imported_sha256 is not None:
        raise ConfigError(
            f"{stored.folder} was imported from an answer file, which is no part of a run. Leave "
            "it out, or join the parts under another name with run=NAME."
        )
    return Part(
        run=path.name, folder=stored.folder, manifest=stored.manifest, answers=stored.answers
    )


def _check_identities(sources: Sequence[Part], name: str) -> None:
    first = sources[0]
    problems = [
        f"{part.folder} is no part of the same run as {first.folder}: "
        f"{describe_differences(differing)}."
        for part in sources[1:]
        if (differing := differences(first.manifest.identity, part.manifest.identity))
    ]
    if problems:
        raise ConfigError(
            f"The parts of {name} cannot be joined. " + " ".join(problems) + " Name the parts of "
            "one run only, or join them under another name with run=NAME."
        )
    for part in sources[1:]:
        if told := other_code(first.manifest.environment, part.manifest.environment):
            logger.warning(
                "%s was answered by another version of the code than %s (%s)",
                part.folder,
                first.folder,
                told,
            )


def _common_limit(sources: Sequence[Part], name: str) -> int | None:
    """How many questions the parts were cut from; what the run itself was asked does not count."""
    limits = {part.manifest.limit for part in sources if part.manifest.shard is not None}
    if len(limits) > 1:
        shown = ", ".join(
            f"{part.run} limit={part.manifest.limit}" for part in sources if part.manifest.shard
        )
        raise ConfigError(
            f"The parts of {name} were cut with different `limit`: {shown}. Name the parts of one "
            "run only."
        )
    return limits.pop() if limits else None


def _join(
    sources: Iterable[Part], name: str
) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """One line and one trace for each question; an answer takes precedence over a failure."""
    chosen: dict[str, Part] = {}
    contradicted: dict[str, str] = {}
    for part in sources:
        for key, line in part.answers.lines.items():
            before = chosen.get(key)
            if before is None or is_failure(before.answers.lines[key]):
                chosen[key] = part
            elif not is_failure(line) and line != before.answers.lines[key]:
                contradicted[key] = f"{key} in {before.run} and {part.run}"
    if contradicted:
        shown = "; ".join(list(contradicted.values())[:_SHOWN])
        raise ConfigError(
            f"{len(contradicted):,} questions of {name} have different answers in different parts: "
            f"{shown}. Leave one of them out; if it is the run itself that differs, set it aside "
            "with overwrite=true."
        )
    lines = {key: part.answers.lines[key] for key, part in chosen.items()}
    traces = {key: part.answers.traces[key] for key, part in chosen.items()}
    return lines, traces


def _tell_missing(sources: Sequence[Part], name: str, missing: Sequence[str]) -> None:
    """Names the parts, lines and questions that are not there."""
    for part in sources:
        if missing and part.answers.num_bad:
            logger.error(
                "%s: lines that do not count, because they were edited or have no line in %s: %d. "
                "Copy that folder again with all its files, and join the parts again.",
                part.folder / PREDICTIONS_FILE,
                TRACE_FILE,
                part.answers.num_bad,
            )
    shards = [shard for part in sources if (shard := part.manifest.shard)]
    for count in sorted({shard.count for shard in shards}):
        there = {shard.index for shard in shards if shard.count == count}
        gone = [f"{i}/{count}" for i in range(1, count + 1) if i not in there]
        if missing and gone:
            logger.error("%s: no part %s of the run is given", name, ", ".join(gone))
    bad = set().union(*(part.answers.bad_keys for part in sources))
    if unasked := [key for key in missing if key not in bad]:
        shown = ", ".join(unasked[:_SHOWN]) + (", ..." if len(unasked) > _SHOWN else "")
        logger.error(
            "%s: %d questions have not been asked and count as missing: %s",
            name,
            len(unasked),
            shown,
        )


def _write(
    folder: Path,
    sources: Sequence[Part],
    spec: TaskSpec,
    order: Sequence[str],
    records: tuple[Mapping[str, Mapping[str, Any]], ...],
) -> None:
    """Writes the manifest, and the answers and traces in the benchmark's order."""
    first, own = sources[0], next((p for p in sources if p.folder == folder), None)
    runner = first.manifest.environment.get("runner")
    environment = {**first.manifest.environment, "task": spec.to_json()}
    environment.pop("command", None)  # which was that of a part
    if isinstance(runner, Mapping):
        environment["runner"] = {**runner, "shard": None}
    parts = [
        {
            "run": part.run,
            "num_stored": len(part.answers.lines),
            "sha256": sha256_of_file(part.folder / PREDICTIONS_FILE)
            if part.answers.lines
            else None,
        }
        for part in sources
        if part is not own
    ]
    code = {name: first.manifest.environment.get(name) for name in ("git", "source")}
    event = {"merged": now(), "parts": parts, **code}
    history = [*(own.manifest.history if own else ()), event]
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(
        folder,
        Manifest(identity=first.manifest.identity, environment=environment, history=history),
    )
    for file, by_key in zip((PREDICTIONS_FILE, TRACE_FILE), records, strict=True):
        write_jsonl(folder / file, (by_key[key] for key in order if key in by_key))
