"""The table of a run: on the screen, and as CSV and Markdown beside the answers."""

from __future__ import annotations

import csv
import logging
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from filelock import Timeout

from evals.errors import DataError
from evals.records import Unit
from runners.errors import ConfigError, StoreError
from runners.storage.files import write_atomic, write_json
from runners.storage.lock import lock_at
from runners.storage.stored import State, StoredRun, StoredTask, read_run
from runners.storage.summary import SummaryFile

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
UNREADABLE = "unreadable"

_NAMES = ("task", "split", "metric", "value")
_COUNTS = ("num_questions", "num_answered", "coverage", "num_unparsed")
_ENDS = ("interval_low", "interval_high")
_UNBROKEN = "\u00a0"
"""Stands for a space at which no line is broken."""
_MOST_GROUPS = 8
"""More of them would be a table; the report has it."""
_FAILURES = ("num_failed", "failures")
_WAIT_S = 60.0
_PART = ("limited", "limit", "shard", "other_data")


def summary_rows(summaries: Iterable[SummaryFile]) -> list[dict[str, str]]:
    """Returns one row a task: the metric that counts, its interval, how much was answered."""
    return [_summary_row(summary) for summary in summaries]


def render_summaries(summaries: Sequence[SummaryFile], columns: int = sys.maxsize) -> str:
    """Returns the table as it is printed, with the further metrics below it.

    What is below it is in lines of at most so many columns.
    """
    lines = [render_columns(summary_rows(summaries)), ""]
    for summary in summaries:  # in no column: each benchmark has other metrics
        further = [
            f"{name} {render_metric(summary, name)}".replace(" ", _UNBROKEN)
            for name, value in summary.metrics.items()
            if name != summary.primary_metric and value is not None
        ]
        metrics = [f"{summary.task}: {', '.join(further)}"]
        told = metrics if further else _by_group(summary)
        lines += [fit(line, columns).replace(_UNBROKEN, " ") for line in told]
    lines += [fit(remark, columns) for remark in _remarks(summaries)]
    return "\n".join(lines).rstrip()


def _by_group(of: SummaryFile) -> Iterator[str]:
    """The metric that counts by the groups of each field, where they are few."""
    for field, groups in of.breakdowns.items():
        shown = {
            group: replace(of, metrics=figures)
            for group, figures in groups.items()
            if figures.get(of.primary_metric) is not None
        }
        if 1 < len(shown) <= _MOST_GROUPS:
            parts = (
                f"{group} {render_metric(one, of.primary_metric)}".replace(" ", _UNBROKEN)
                for group, one in shown.items()
            )
            yield f"{of.task} by {field}: {', '.join(parts)}"


def write_tables(run_dir: Path) -> None:
    """Writes `summary.csv`, `summary.md` and `run.json` over all tasks in a run's folder.

    The first has one row a metric, unrounded, for machines; the interval stands in the row of the
    metric that counts. The last has one object a task, see `task_row`. Figures that are not those
    of the answers are in none of them. Of two programs that have scored tasks of the run, the
    second one writes all of them: it waits for the first.

    Raises:
        StoreError: another process holds the tables for a minute.
    """
    lock = lock_at(run_dir / f".{RUN_FILE}.lock", _WAIT_S)
    try:
        with lock:
            _write_tables(run_dir)
    except Timeout as error:
        raise StoreError(
            f"The tables in {run_dir} are being written by another process, which holds "
            f"{lock.lock_file}. See what it does; the same command writes them then."
        ) from error


def _write_tables(run_dir: Path) -> None:
    run = read_run(run_dir)
    rows = list(map(task_row, run.tasks.values()))
    write_json(run_dir / RUN_FILE, {"run": run.name, "tasks": rows})
    figures = read_figures(run)
    summaries = list(figures.values())
    # A task without metrics has a line too, that says how much of it was answered.
    metrics = [(task, of, name) for task, of in figures.items() for name in of.metrics or [""]]
    known = {row["task"]: row for row in rows}
    table = StringIO()
    columns = [*_NAMES, *_ENDS, *_COUNTS, *_FAILURES, *_PART]
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for task, of, name in metrics:
        causes = " ".join(f"{cause}={number}" for cause, number in of.num_failed.items())
        row = {**known[task], "metric": name, "value": of.metrics.get(name), "failures": causes}
        writer.writerow(row if name == of.primary_metric else row | dict.fromkeys(_ENDS))
    write_atomic(run_dir / "summary.csv", table.getvalue())
    shown = ((task, of.split, name, render_metric(of, name)) for task, of, name in metrics)
    rounded = render_markdown([dict(zip(_NAMES, row, strict=True)) for row in shown])
    text = f"# {run_dir.name}\n\n{render_markdown(summary_rows(summaries))}\n{rounded}"
    told = [
        *(line.replace(_UNBROKEN, " ") for of in summaries for line in _by_group(of)),
        *_remarks(summaries),
        *(f"{row['task']} {lack}." for row in rows if (lack := _lack(row))),
    ]
    remarks = "".join(f"{remark}\n" for remark in told)
    write_atomic(run_dir / "summary.md", text + (f"\n{remarks}" if remarks else ""))


def read_figures(run: StoredRun) -> dict[str, SummaryFile]:
    """Returns the figures of a run's tasks, by task, as far as they are those of the answers.

    Other figures are left out, and a warning names their tasks.
    """
    found = {}
    for name, task in run.tasks.items():
        row = task_row(task)
        warn_of_lack(row, task.folder)
        if row["state"] == State.FINISHED and task.summary is not None:
            found[name] = task.summary
    return found


def warn_of_lack(row: Mapping[str, object], folder: Path) -> None:
    """Warns that a task has no figures of its answers, but answers or figures that have changed."""
    if row["state"] != State.UNFINISHED and (lack := _lack(row)):
        logger.warning("%s %s", folder, lack)


def _lack(row: Mapping[str, object]) -> str:
    """Why the row of a task has no figures; empty if it has them."""
    if row["state"] == State.FINISHED:
        return ""
    if row["state"] == State.UNFINISHED:
        return "is unfinished: it has no figures yet"
    fault = "its figures are not those of its answers, and are left out until it is scored again"
    return f"is {row['state']}: {row.get('fault', fault)}"


def task_row(task: StoredTask) -> dict[str, object]:
    """Returns what is known of a task of a run: names, state, figures, and what decided them.

    `state` is that of a `StoredTask`, or `unreadable` with what is wrong as `fault`. Figures are
    left out where they are not those of the answers: only a finished task has any.
    """
    row: dict[str, object] = {"run": task.run, "task": task.name}
    try:
        summary, manifest, state = task.summary, task.manifest, task.state
    except (ConfigError, DataError) as error:
        return {**row, "state": UNREADABLE, "fault": str(error)}
    row["state"] = state.value
    if manifest is not None:
        identity, quantization = manifest.identity, manifest.identity.get("quantization")
        row |= {name: identity.get(name) for name in ("model", "conversation", "dtype")}
        row["quantization"] = (
            quantization.get("name") if isinstance(quantization, Mapping) else None
        )
        row["started"] = manifest.started
        row["shard"] = None if manifest.shard is None else manifest.shard.option
    return row if summary is None or state is not State.FINISHED else row | _figures(summary)


def _figures(of: SummaryFile) -> dict[str, object]:
    return {
        "split": of.split,
        "definition": of.definition,
        "metric": of.primary_metric if of.metrics else None,
        "score": of.metrics.get(of.primary_metric),
        **dict(zip(_ENDS, of.interval or (None, None), strict=True)),
        "unit": of.scale(of.primary_metric).unit.value,
        **{name: getattr(of, name) for name in _COUNTS},
        "num_failed": sum(of.num_failed.values()),
        "limited": of.origin.limited,
        "limit": of.origin.limit,
        "other_data": ", ".join(of.other_data) or None,
        "metrics": dict(of.metrics),
        "failures": dict(of.num_failed),
    }


def render_columns(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns a table as it is printed, with the names of the fields above; none without rows.

    >>> print(render_columns([{"task": "gqa", "score": "75.00"}, {"task": "pope", "score": "-"}]))
    task score
     gqa 75.00
    pope     -
    """
    if not rows:
        return ""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def fit(line: str, columns: int) -> str:
    """Returns a line as several of at most so many columns, indented, broken between words.

    >>> print(fit("gqa: binary 100.00, open 50.00", 20))
    gqa: binary 100.00,
      open 50.00
    """
    if len(line) <= columns:
        return line
    return textwrap.fill(
        line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def render_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns a table in Markdown; nothing where it has no row."""
    if not rows:
        return ""
    cells = [[cell.replace("|", "\\|") for cell in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _summary_row(summary: SummaryFile) -> dict[str, str]:
    metric = summary.primary_metric
    scale = summary.scale(metric)
    ends = [f"{scale.in_print(end):.2f}" for end in summary.interval or ()]
    return {
        "task": summary.task,
        "split": summary.split,
        "metric": metric if summary.metrics else "none",
        # The star leads to the remark below: such a figure is not to be quoted as it is.
        "score": render_metric(summary, metric) + (" *" if _has_remark(summary) else ""),
        "95% interval": " to ".join(ends),
        "answered": f"{summary.num_answered:,} / {summary.num_questions:,}",
        "failed": f"{sum(summary.num_failed.values()):,}",
    }


def _has_remark(of: SummaryFile) -> bool:
    return of.coverage < 1 or of.origin.limited or bool(of.other_data)


def _remarks(summaries: Iterable[SummaryFile]) -> Iterator[str]:
    for of in summaries:
        if of.origin.limited:
            yield f"* {of.task}: only {of.num_questions:,} questions of the split were asked."
        if of.coverage < 1:
            what = render_lack(of)
            yield f"* {of.task}: {render_coverage(of.coverage)} of the questions {what}."
        if of.other_data:
            yield f"* {of.task}: {of.on_other_data}."
        if of.num_unparsed:
            judged = ", or from what the judge says about them" if of.is_judged else ""
            yield f"{of.task}: nothing could be read from {of.num_unparsed:,} answers{judged}."


def render_metric(summary: SummaryFile, metric: str) -> str:
    """Returns a share in percent, points as they are, other numbers with more digits."""
    value, scale = summary.metrics.get(metric), summary.scale(metric)
    if value is None:
        return "-"
    num_digits = 4 if scale.unit is Unit.NUMBER else 2  # a distance may be 0.0312
    return f"{scale.in_print(value):.{num_digits}f}"


def render_signed(difference: float, num_digits: int) -> str:
    """Returns a difference with its sign, and none where it is nothing as it is printed.

    >>> render_signed(1.25, 1), render_signed(-1e-9, 2)
    ('+1.2', '0.00')
    """
    text = f"{difference:+.{num_digits}f}"
    return text if float(text) else text.lstrip("+-")


def render_coverage(coverage: float) -> str:
    """Returns how many of the questions were answered; a part never reads as all of them.

    >>> render_coverage(0.9999), render_coverage(1)
    ('99.9%', '100%')
    """
    return "100%" if coverage == 1 else f"{min(100 * coverage, 99.9):.1f}%"


def render_lack(summary: SummaryFile) -> str:
    """Returns what became of a part of the questions only, and of the others, with the causes."""
    causes = ", ".join(f"{cause} {n:,}" for cause, n in summary.num_failed.items()) or "no answer"
    if summary.is_judged:  # the others are graded 0, or left out of a comparison
        return f"were answered and judged ({causes})"
    return f"were answered, the others count as wrong ({causes})"
