"""The table of a run: on the screen, and as CSV and Markdown beside the answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.options.names import is_set_aside
from runners.storage.files import write_atomic
from runners.storage.summary import read_summary

if TYPE_CHECKING:
    import pandas as pd

_LARGEST_FRACTION = 1.0
_NOT_A_SHARE = frozenset({"distribution"})
"""Metrics that are no fraction although their values are small."""


def summary_table(summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns one row a task: the metric that counts, its interval, how much was answered.

    Args:
        summaries: The contents of `summary.json`.
    """
    import pandas as pd

    rows = [_summary_row(summary) for summary in summaries]
    return pd.DataFrame(rows)


def metrics_table(summaries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns one row a metric, unrounded, for machines."""
    import pandas as pd

    columns = ["task", "split", "metric", "value", "num_questions", "num_answered", "coverage"]
    rows = [
        {**{name: summary.get(name) for name in columns}, "metric": name, "value": value}
        for summary in summaries
        for name, value in (summary["metrics"] or {"": None}).items()
    ]
    return pd.DataFrame(rows, columns=columns)


def render_summaries(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table as it is printed, with the further metrics below it."""
    lines = [summary_table(summaries).to_string(index=False), ""]
    for summary in summaries:
        further = [
            f"{name} {_shown(value, name)}"
            for name, value in summary["metrics"].items()
            if name != summary["primary_metric"] and value is not None
        ]
        if further:
            lines.append(f"{summary['task']}: " + ", ".join(further))
    lines += _remarks(summaries)
    return "\n".join(lines).rstrip()


def write_tables(run_dir: Path) -> None:
    """Writes `summary.csv` and `summary.md` over all tasks that lie in a run's folder."""
    folders = sorted(path for path in run_dir.iterdir() if path.is_dir() and not is_set_aside(path))
    summaries = [summary for folder in folders if (summary := read_summary(folder)) is not None]
    write_atomic(run_dir / "summary.csv", metrics_table(summaries).to_csv(index=False))
    further = metrics_table(summaries).drop(columns=["num_questions", "num_answered", "coverage"])
    further["value"] = list(map(_shown, further["value"], further["metric"]))
    text = f"# {run_dir.name}\n\n{render_markdown(summary_table(summaries))}"
    text += f"\n{render_markdown(further)}"
    remarks = "\n".join(_remarks(summaries))
    write_atomic(run_dir / "summary.md", text + (f"\n{remarks}\n" if remarks else ""))


def render_markdown(table: pd.DataFrame) -> str:
    """Returns a table in Markdown."""
    rows = [
        [str(cell).replace("|", "\\|") for cell in row] for row in table.itertuples(index=False)
    ]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _summary_row(summary: Mapping[str, Any]) -> dict[str, str]:
    metric = summary["primary_metric"]
    interval = summary["interval"]
    shown = "" if interval is None else _shown_interval(summary["metrics"][metric], interval)
    failed = sum(summary["num_failed"].values())
    complete = summary["coverage"] == 1
    return {
        "task": summary["task"],
        "split": summary["split"],
        "metric": metric if summary["metrics"] else "none",
        "score": _shown(summary["metrics"].get(metric)) + ("" if complete else " *"),
        "95% interval": shown,
        "answered": f"{summary['num_answered']:,} / {summary['num_questions']:,}",
        "failed": f"{failed:,}",
    }


def _remarks(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    remarks = []
    for summary in summaries:
        task = summary["task"]
        if summary["coverage"] < 1:
            causes = ", ".join(f"{cause} {n:,}" for cause, n in summary["num_failed"].items())
            remarks.append(
                f"* {task}: {summary['coverage']:.1%} of the questions were answered, the others "
                f"count as wrong ({causes or 'no answer'})."
            )
        if summary["num_unparsed"]:
            remarks.append(
                f"{task}: no choice could be read from {summary['num_unparsed']:,} answers."
            )
    return remarks


def _shown(value: float | None, metric: str = "") -> str:
    """A fraction as a percentage; points, which are larger than 1, as they are."""
    if value is None or math.isnan(value):  # pandas turns None into NaN
        return "-"
    if metric in _NOT_A_SHARE:
        return f"{value:.4f}"
    return f"{100 * value:.2f}" if value <= _LARGEST_FRACTION else f"{value:.2f}"


def _shown_interval(value: float, interval: Sequence[float]) -> str:
    """Both ends in the unit of the value, on whichever side of 1 they lie."""
    scale = 100 if value <= _LARGEST_FRACTION else 1
    return " to ".join(f"{scale * end:.2f}" for end in interval)
