"""What is said about a comparison: a table, JSON, Markdown for people, JUnit for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from runners.storage.run_table import render_markdown
from runners.views.gate.gate import FAIL, PASS, UNDECIDED, TaskVerdict, overall

if TYPE_CHECKING:
    import pandas as pd

JSON_FILE, MARKDOWN_FILE, JUNIT_FILE = "verdict.json", "verdict.md", "junit.xml"
_JUNIT_TAGS = {PASS: "system-out", FAIL: "failure", UNDECIDED: "error"}
_CONCLUSIONS = {
    PASS: "Pass: no drop that matters",
    FAIL: "Fail: a significant drop",
    UNDECIDED: "Undecided: these questions cannot tell",
}
_SMALLEST_P = 0.0001


def to_json(verdicts: Sequence[TaskVerdict]) -> dict[str, Any]:
    """Returns what `verdict.json` holds; scores and differences are fractions, unrounded."""
    return {"verdict": overall(verdicts), "tasks": [_task_json(verdict) for verdict in verdicts]}


def _task_json(verdict: TaskVerdict) -> dict[str, Any]:
    found = verdict.comparison
    names = ("baseline", "candidate", "difference", "interval", "p")
    return {
        "task": verdict.task,
        **{name: getattr(found, name) for name in names},
        "p_adjusted": verdict.p_adjusted,
        "gained": found.gained,
        "lost": found.lost,
        "detectable_difference": verdict.detectable,
        "verdict": verdict.verdict,
    }


def _table(verdicts: Sequence[TaskVerdict]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([_row(verdict) for verdict in verdicts])


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


def render_text(title: str, verdicts: Sequence[TaskVerdict], remarks: Sequence[str]) -> str:
    """Returns what is printed.

    Args:
        title: Which run is held against which.
        verdicts: One a task.
        remarks: About tasks that were not compared.
    """
    lines = [title, _table(verdicts).to_string(index=False), ""]
    return "\n".join([*lines, *_all_remarks(verdicts, remarks), _conclusion(verdicts)])


def render_markdown_page(
    title: str, verdicts: Sequence[TaskVerdict], remarks: Sequence[str]
) -> str:
    """Returns what `verdict.md` holds.

    Args:
        title: Which run is held against which.
        verdicts: One a task.
        remarks: About tasks that were not compared.
    """
    page = f"# {title}\n\n**{_conclusion(verdicts)}**\n\n{render_markdown(_table(verdicts))}"
    listed = "".join(f"- {remark}\n" for remark in _all_remarks(verdicts, remarks))
    return f"{page}\n{listed}" if listed else page


def render_junit(title: str, verdicts: Sequence[TaskVerdict]) -> str:
    """Returns what `junit.xml` holds: one test case a task; an undecided one is an error.

    Args:
        title: Which run is held against which.
        verdicts: One a task.
    """
    counts = Counter(verdict.verdict for verdict in verdicts)
    numbers = {"tests": len(verdicts), "failures": counts[FAIL], "errors": counts[UNDECIDED]}
    totals = {name: str(number) for name, number in numbers.items()}
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"regress: {title}", **totals})
    for verdict in verdicts:
        names = {"classname": "regress", "name": verdict.task}
        case = ElementTree.SubElement(suite, "testcase", names)
        sentence, tag = _sentence(verdict), _JUNIT_TAGS[verdict.verdict]
        details = {"type": verdict.verdict, "message": sentence}
        found = ElementTree.SubElement(case, tag, {} if verdict.verdict == PASS else details)
        found.text = "\n".join([sentence, *verdict.remarks])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _all_remarks(verdicts: Sequence[TaskVerdict], remarks: Sequence[str]) -> list[str]:
    return [*(remark for verdict in verdicts for remark in verdict.remarks), *remarks]


def _sentence(verdict: TaskVerdict) -> str:
    row = _row(verdict)
    return (
        f"{verdict.task}: {row['baseline']} to {row['candidate']} ({row['difference']} points, "
        f"95% interval {row['95% interval'] or 'unknown'}), adjusted p {row['adjusted p']}, "
        f"{row['gained']} gained, {row['lost']} lost: {verdict.verdict}"
    )


def _conclusion(verdicts: Sequence[TaskVerdict]) -> str:
    verdict = overall(verdicts)
    tasks = [found.task for found in verdicts if found.verdict == verdict]
    return f"{_CONCLUSIONS[verdict]} ({', '.join(tasks)})"


def _points(difference: float) -> str:
    shown = f"{100 * difference:+.2f}"
    return "0.00" if shown in ("+0.00", "-0.00") else shown


def _shown_p(p: float) -> str:
    return f"<{_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.4f}"
