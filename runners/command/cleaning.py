"""`llava-evals clean`: what can be removed without a loss, shown first and removed when agreed.

That is what `overwrite=true` set aside in the results, as soon as each of its answers, of a judge's
replies, of the gate's verdicts, and of scores that lie there alone, has another in its place; and,
where that is asked for, what the user's cache holds for all results, which is made again when it is
needed. What nothing has replaced, and runs as they stand, are never among it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.errors import DataError
from runners.command.listing import size_of
from runners.command.plain_options import read_plain
from runners.errors import BAD_INPUT, COMPLETE, ConfigError
from runners.options.names import VERDICT, is_set_aside
from runners.options.register import cache_dir
from runners.storage.answer_lines import is_failure
from runners.storage.files import SPOILED_SUFFIX, count_lines, read_intact_lines
from runners.storage.stored import StoredTask, require_results

_SET_ASIDE, _CACHES, _ALL = KINDS = ("set_aside", "caches", "all")
_OPTIONS = {"results_dir": "results", "what": _SET_ASIDE, "yes": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A folder that may be removed.

    Attributes:
        folder: Which.
        what: What is in it; a few words.
        kept: Why it is kept all the same; empty where it need not be.
    """

    folder: Path
    what: str
    kept: str = ""


def clean(words: Sequence[str]) -> int:
    """Shows what can be removed, asks, and removes it; returns the exit code.

    Raises:
        ConfigError: an option is wrong, or the folder with the results does not exist.
    """
    given = read_plain(words, _OPTIONS)
    if given["yes"] not in ("true", "false"):
        raise ConfigError(f"`yes` must be true or false, but is {given['yes']!r}.")
    what = given["what"]
    if what not in KINDS:
        raise ConfigError(f"`what` must be one of {', '.join(KINDS)}, but is {what!r}.")
    results_dir = Path(given["results_dir"])
    if what != _CACHES:
        require_results(results_dir)
    set_aside = () if what == _CACHES else _set_aside(results_dir)
    caches = list(_caches(Path(cache_dir())))
    found = [*set_aside, *(() if what == _SET_ASIDE else caches)]
    for each in found:
        size = f"{size_of(each.folder) / 1e6:,.1f} MB"
        print(f"{'kept' if each.kept else size:>12}  {each.folder}: {each.kept or each.what}")
    if caches and what == _SET_ASIDE:
        megabytes = sum(size_of(each.folder) for each in caches) / 1e6
        print(
            f"Caches, shared by all results: {megabytes:,.1f} MB in {cache_dir()}; see what=caches."
        )
    removable = [each.folder for each in found if not each.kept]
    if not removable:
        print("There is nothing to remove.")
        return COMPLETE
    if given["yes"] != "true" and not _is_agreed(len(removable)):
        print("Nothing was removed.")
        return COMPLETE
    return _remove(removable)


def _is_agreed(number: int) -> bool:
    print(
        f"Remove {'these' if number > 1 else 'this'}? No evaluation should be going on. [y/N] ",
        end="",
        flush=True,
    )
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print("\nNobody answers: yes=true removes them unasked.")
    return answer.strip().lower() in ("y", "yes")


def _remove(folders: Sequence[Path]) -> int:
    code = COMPLETE
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            print(f"{folder} cannot be removed: {error.strerror}.", file=sys.stderr)
            code = BAD_INPUT
    return code


def _set_aside(results_dir: Path) -> Iterator[Found]:
    """The folders of tasks that `overwrite=true` put out of the way."""
    for folder in sorted(results_dir.glob("*/*")):
        task = StoredTask(folder)
        if folder.is_symlink() or not is_set_aside(folder) or not task.manifest_path.is_file():
            continue
        successor = StoredTask(folder.with_name(folder.name.rpartition(".old-")[0]))
        try:
            kept = _what_is_lost(task, successor)
        except (ConfigError, DataError, OSError) as error:
            kept = f"what would be lost is not known: {error}"
        what = "answers that were set aside; each has another in its place"
        yield Found(folder=folder, what=what, kept=kept)


def _what_is_lost(task: StoredTask, successor: StoredTask) -> str:
    """Says which answers and replies nothing has replaced; empty if each has another.

    Raises:
        ConfigError, DataError: a stored file cannot be read.
    """
    answers, replies = _answered(task), _replied(task.folder)
    # of answers that are there, scores are made again
    scored = set() if task.answers_path.exists() else {*task.scores}
    spoiled = sum(map(count_lines, task.folder.rglob(f"*{SPOILED_SUFFIX}")))
    lost = {
        "answers": len(answers - _answered(successor)),
        "scores": len(scored - successor.scores.keys()) if scored else 0,
        "replies by a judge": len(replies - _replied(successor.folder)),
        "verdicts of a gate": len(_verdicts(task.folder) - _verdicts(task.folder.parent)),
        "lines that were edited or cut off": task.answers.num_bad + spoiled,
    }
    told = " and ".join(f"{number:,} of its {name}" for name, number in lost.items() if number)
    return told and f"{successor.name} has nothing for {told}"


def _answered(task: StoredTask) -> set[str]:
    """The keys of the questions with an answer that counts."""
    return {key for key, line in task.answers.lines.items() if not is_failure(line)}


def _verdicts(folder: Path) -> set[str]:
    """The folders with a verdict of the gate that lie in a folder."""
    return {path.name for path in folder.glob(f"{VERDICT}*")}


def _replied(folder: Path) -> set[tuple[str, str, str]]:
    """Which replies lie in a task's folder: of which judge, in which run, to which question."""
    return {
        (path.parent.name, path.name, str(line.get("question_id")))
        for path in folder.glob("judge-*/run-*.jsonl")
        for line in read_intact_lines(path)
        if not line.get("error")
    }


def _caches(cache: Path) -> Iterator[Found]:
    """What is made again when it is needed."""
    known = {
        "demo": "generated pictures and questions",
        "digests": "hashes of weights, which are read again",
        "sweeps": "exit codes that sweeps over machines left",
    }
    for name, what in known.items():
        if (cache / name).is_dir() and not (cache / name).is_symlink():
            yield Found(folder=cache / name, what=what)
