"""What is said below the tables about a figure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from runners.errors import ConfigError
from runners.storage.manifest import other_code
from runners.storage.run_table import render_lack
from runners.storage.stored import State
from runners.views.definitions import (
    needs_judge,
    not_present,
    other_options,
    render_options,
    usual_judge,
)
from runners.views.leaderboard.board import Mark
from runners.views.leaderboard.entries import Entry, RunEntries, printable
from runners.views.setups import model_template, part_asked, setup_of

_HOW_CHANGED = {
    State.EDITED: "the stored answers, scores or figures were edited: they are others than those "
    "that were scored",
    State.STALE: "the stored answers are others than those that were scored",
}


def marks_of(entry: Entry) -> list[Mark]:
    """Returns what has to be known about all figures of a stored task."""
    return [*_extent(entry), *_origin(entry), *_lack(entry)]


def mark_other_questions(runs: Sequence[RunEntries]) -> list[RunEntries]:
    """Returns runs with those tasks marked that were asked others than most of their column.

    Where as many were asked one thing as another, nothing tells which is meant: all are marked.
    """
    columns: defaultdict[object, Counter[object]] = defaultdict(Counter)
    for entry in (entry for run in runs for entry in run.entries):
        if entry.questions and all(mark.is_comparable for mark in marks_of(entry)):
            columns[entry.column][entry.questions] += 1

    def marked(entry: Entry) -> Entry:
        counted = columns[entry.column]
        most = [one for one, number in counted.items() if number == max(counted.values())]
        odd = entry.questions in counted and most != [entry.questions]
        return replace(entry, asks_others=odd)

    return [replace(run, entries=list(map(marked, run.entries))) for run in runs]


def describe_setup(entry: Entry) -> str:
    """Returns what the answers were computed with, such as `float16, vicuna_v1, nf4`."""
    if entry.manifest is None:
        return "unknown"
    if entry.manifest.imported_sha256 is not None:
        return "imported"
    return printable(", ".join(setup_of(entry.manifest, entry.spec))) or "unknown"


def _extent(entry: Entry) -> Iterator[Mark]:
    """What of the split the figure is over."""
    summary = entry.summary
    if entry.asks_others:
        yield Mark(text="asked other questions than others of its column")
    if part := part_asked(summary, entry.manifest):
        yield Mark(text=part)
    expected = summary.expected_num_questions
    # Of a part of the questions the number says nothing about the data.
    if expected not in (None, summary.num_questions) and not summary.origin.limited:
        yield Mark(text=f"{summary.num_questions:,} questions, but {expected:,} are published")
    if summary.coverage < 1:
        yield Mark(
            text=f"incomplete: {summary.num_answered:,} of {summary.num_questions:,} questions "
            f"{printable(render_lack(summary))}"
        )


def _origin(entry: Entry) -> Iterator[Mark]:
    """By which rules, and from which answers, the figure was made."""
    summary = entry.summary
    spec, manifest = entry.spec, entry.manifest
    if spec is None or manifest is None:
        yield Mark(text="without a manifest: how it was answered and scored is not known")
        return
    if summary.metrics and (told := not_present(spec, summary)):
        yield Mark(text=printable(told))
    if options := other_options(summary.task, spec, manifest):
        yield Mark(text=printable(render_options(options)))
    if summary.on_other_data:
        yield Mark(text=printable(summary.on_other_data))
    if (template := model_template(manifest)) is not None:
        used = manifest.identity["conversation"]
        yield Mark(text=printable(f"asked in the template {used}, but the model has {template}"))
    judge, usual = summary.judge, usual_judge(summary.task)
    if judge is not None and usual not in (None, judge.model):
        yield Mark(
            text=f"judged by {printable(judge.model)}, where the published figures are by {usual}"
        )
    if any(other_code(*sessions) for sessions in pairwise(manifest.history)):
        text = "answered by several versions of the code, see `history` in its manifest.json"
        yield Mark(text=text, is_comparable=True)
    if entry.stored.changed_files:
        yield Mark(text=_HOW_CHANGED[entry.stored.state])
    if summary.origin.imported:  # scored as any others, so the figure means the same
        yield Mark(text="answers were imported from a file", is_comparable=True)


def _lack(entry: Entry) -> Iterator[Mark]:
    """Why there are no figures at all."""
    if entry.summary.metrics:
        return
    if needs_judge(entry.summary.task):
        yield Mark(text="waits for its judge: runners.score run=NAME judge=openai")
        return
    try:
        lack = "" if entry.spec is None else entry.spec.build().lack
    except ConfigError:  # the task is no more
        lack = ""
    yield Mark(text=f"the split {lack.removesuffix('.')}" if lack else "was not scored")
