"""What is said about a comparison: a table, JSON, Markdown for people, JUnit for CI."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from xml.etree import ElementTree

from runners.environment import installed_version, now
from runners.storage.run_table import fit, render_columns, render_markdown, render_signed
from runners.views.gate.gate import FAIL, MARGIN, PASS, UNDECIDED, TaskVerdict, Verdict

# An undecided task is no failure of the candidate, and still must not pass.
_JUNIT_TAGS = {PASS: "system-out", FAIL: "failure", UNDECIDED: "error"}
_CONCLUSIONS = {
    PASS: "Pass: no drop that matters",
    FAIL: "Fail: a significant drop",
    UNDECIDED: "Undecided: these questions cannot tell",
}
_SPARE = (("p",), ("questions",), ("gained", "lost"), ("95% interval",))
"""What a narrow terminal is not shown, as far as it must be."""
_SMALLEST_P = 0.0001
_PACKAGES = ("llava-evals", "numpy", "scipy")


def to_json(found: Verdict) -> dict[str, object]:
    """Returns what `verdict.json` holds; scores and differences are fractions, unrounded."""
    settings, counts = found.settings, Counter(task.verdict for task in found.tasks)
    sides = {"baseline": found.baseline, "candidate": found.candidate}
    return {
        "verdict": found.overall,
        "runs": {
            side: {"name": run.name, "folder": str(run.folder)} for side, run in sides.items()
        },
        "alpha": settings.alpha,
        "max_drop": settings.max_drop,
        "margin": MARGIN if settings.max_drop is None else settings.max_drop,
        "seed": settings.seed,
        "time": now(),
        "versions": {
            "python": platform.python_version(),
            **{name: installed_version(name) for name in _PACKAGES},
        },
        "counts": {
            "tasks": len(found.tasks),
            **{verdict: counts[verdict] for verdict in (PASS, FAIL, UNDECIDED)},
            "questions": sum(task.comparison.num_questions for task in found.tasks),
        },
        "hashes": {
            task.task: dict(zip(sides, map(asdict, task.pair.hashes), strict=True))
            for task in found.tasks
        },
        "tasks": [_task_json(task) for task in found.tasks],
        "remarks": found.remarks,
    }


def _task_json(task: TaskVerdict) -> dict[str, object]:
    # The fields are in the documented order.
    names = ("baseline", "candidate", "difference", "interval", "p")
    return {
        "task": task.task,
        **{name: getattr(task.comparison, name) for name in names},
        "p_adjusted": task.p_adjusted,
        "gained": task.comparison.gained,
        "lost": task.comparison.lost,
        "detectable_difference": task.detectable,
        "verdict": task.verdict,
        "num_questions": task.comparison.num_questions,
        "num_clusters": task.comparison.num_clusters,
        "seconds": task.pair.seconds,
    }


def render_text(found: Verdict, columns: int = sys.maxsize) -> str:
    """Returns what is printed, in lines of at most so many columns.

    Where the table is wider, figures that do not decide are left out, and named.
    """
    rows, left_out = _rows(found), list[str]()
    for names in _SPARE:
        if len(render_columns(rows).partition("\n")[0]) > columns:
            rows = [{key: row[key] for key in row if key not in names} for row in rows]
            left_out += names
    told = [*found.remarks, _conclusion(found)]
    if left_out:
        told.insert(0, f"Not shown in {columns} columns, but in verdict.md: {', '.join(left_out)}.")
    lines = [fit(line, columns) for line in told]
    return "\n".join([found.title, render_columns(rows), "", *lines])


def render_markdown_page(found: Verdict) -> str:
    """Returns what `verdict.md` holds."""
    page = f"# {found.title}\n\n**{_conclusion(found)}**\n\n{render_markdown(_rows(found))}"
    remarks = "".join(f"- {remark}\n" for remark in found.remarks)
    return f"{page}\n{remarks}" if remarks else page


def render_junit(found: Verdict) -> str:
    """Returns what `junit.xml` holds: one test case a task; an undecided one is an error."""
    counts = Counter(task.verdict for task in found.tasks)
    numbers = {"tests": len(found.tasks), "failures": counts[FAIL], "errors": counts[UNDECIDED]}
    totals = {name: str(number) for name, number in numbers.items()}
    totals["time"] = _junit_time(sum(task.pair.seconds for task in found.tasks))
    root = ElementTree.Element("testsuites", totals)
    named = {"name": f"regress: {found.title}", "timestamp": now().removesuffix("Z")}
    suite = ElementTree.SubElement(root, "testsuite", named | totals)
    for task in found.tasks:
        names = {"classname": "regress", "name": task.task}
        names["time"] = _junit_time(task.pair.seconds)
        case = ElementTree.SubElement(suite, "testcase", names)
        sentence = _sentence(task)
        details = {"type": task.verdict, "message": sentence} if task.verdict != PASS else {}
        child = ElementTree.SubElement(case, _JUNIT_TAGS[task.verdict], details)
        child.text = "\n".join([sentence, *task.remarks])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_time(seconds: float) -> str:
    return f"{seconds:.3f}"


JSON_FILE = "verdict.json"
PAGES: Mapping[str, Callable[[Verdict], str]] = {
    "verdict.md": render_markdown_page,
    "junit.xml": render_junit,
}
"""What is written beside `JSON_FILE`, by name."""


def _rows(found: Verdict) -> list[dict[str, str]]:
    return [_row(task) for task in found.tasks]


def _row(verdict: TaskVerdict) -> dict[str, str]:
    """What people read of one task: scores and differences in points."""
    found = verdict.comparison
    return {
        "task": verdict.task,
        "questions": f"{found.num_questions:,}",
        "baseline": f"{100 * found.baseline:.2f}",
        "candidate": f"{100 * found.candidate:.2f}",
        "difference": _points(found.difference),
        "95% interval": " to ".join(map(_points, found.interval or ())),
        "p": _shown_p(found.p),
        "adjusted p": _shown_p(verdict.p_adjusted),
        "gained": f"{found.gained:,}",
        "lost": f"{found.lost:,}",
        "verdict": verdict.verdict,
    }


def _sentence(verdict: TaskVerdict) -> str:
    row = _row(verdict)
    return (
        f"{verdict.task}: {row['baseline']} to {row['candidate']} ({row['difference']} points, "
        f"95% interval {row['95% interval'] or 'unknown'}), adjusted p {row['adjusted p']}, "
        f"{row['gained']} gained, {row['lost']} lost: {verdict.verdict}"
    )


def _conclusion(found: Verdict) -> str:
    tasks = [task.task for task in found.tasks if task.verdict == found.overall]
    return f"{_CONCLUSIONS[found.overall]} ({', '.join(tasks)})"


def _points(difference: float) -> str:
    return render_signed(100 * difference, 2)


def _shown_p(p: float) -> str:
    return f"<{_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.4f}"
