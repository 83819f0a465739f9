"""Whether a stored figure still means what the present code and configuration mean by it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from evals.ranking import is_ranked
from runners.errors import ConfigError
from runners.options.build import default_spec
from runners.options.include import hash_included, is_at_hand
from runners.options.task_spec import TaskSpec
from runners.scoring.judge import Judgment
from runners.storage.manifest import Manifest
from runners.storage.summary import SummaryFile
from runners.views.setups import given_length

_PLACES = frozenset({"data_dir", "source", "split", "check_counts", "judge", "replies", "answer"})
"""Options of a task that say where its data lie, or that a column or a mark of its own tells."""

_OWN = "custom_"
"""What the definitions of own questions begin with, whatever their task is called."""


@cache
def _default_options(task: str) -> Mapping[str, Any] | None:
    """A task's options in `conf/task`, None for a task that has no file there."""
    spec = default_spec(task)
    return None if spec is None else spec.options


def other_options(task: str, spec: TaskSpec, manifest: Manifest) -> dict[str, Any]:
    """Returns the options in which a manifest's task differs from those that `task` has here.

    The longest answer is one of them, whichever option gave it.
    """
    defaults = _default_options(task)
    if defaults is None or task == "custom":  # of which no option is usual
        return {}
    longest = given_length(manifest, spec)
    given = {} if longest is None else {"max_new_tokens": longest}
    return {
        name: value
        for name, value in sorted({**spec.options, **given}.items())
        if name not in _PLACES and defaults.get(name) != value
    }


def render_options(options: Mapping[str, object]) -> str:
    """Returns what `other_options` found as text."""
    shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"options other than the default: {shown}"


def not_present(spec: TaskSpec, summary: SummaryFile) -> str:
    """Returns why the code at hand might not make the stored figures of a task again.

    One sentence without its full stop, with what to do; empty if nothing is known against it.
    """
    if not is_at_hand(spec.target):
        module = spec.target.split(".")[1]
        return (
            f"cannot be checked: scored by {module}.py in a folder of somebody's own; name it with "
            "include=DIR"
        )
    code = summary.hashes.included_code
    if code and code != hash_included(spec.target):
        return (
            "stale: scored by the included code as it was then, which has changed; score it again "
            "with runners.score run=NAME include=DIR"
        )
    if not _is_present_definition(spec, summary):
        return (
            f"stale: scored by {summary.definition} as it was then, which is not the present "
            "definition; score it again with runners.score run=NAME"
        )
    return ""


def _is_present_definition(spec: TaskSpec, summary: SummaryFile) -> bool:
    judge = summary.judge
    try:
        task = spec.build()
    except ConfigError:
        return False  # the task or an option of it is no more
    if judge is not None and task.grading is not None:
        # runners.score may have asked another one than the manifest names, or one where none is
        task = task.with_replies(judge.model, ())
    present = Judgment(task=task, record=judge).scorer_hash
    return summary.definition == task.definition and summary.hashes.scorer == present


def unusual_definition(task: str, summary: SummaryFile) -> str:
    """Returns the definition of figures that stand in a column of their own, else nothing.

    They are those of ranked answers, those of own questions, for which no scorer is the usual, and
    those by a judge where the usual ones need none.
    """
    if is_ranked(summary.definition) or summary.definition.startswith(_OWN):
        return summary.definition
    is_usual = summary.judge is None or needs_judge(task)
    return "" if is_usual else summary.definition


def needs_judge(task: str) -> bool:
    """Returns whether nothing but a judge scores a task as it usually is."""
    if usual_judge(task) is None:
        return False
    spec = default_spec(task)
    return spec is not None and spec.build().judge is None


def usual_judge(task: str) -> str | None:
    """Returns the judge whose figures are published for a task, None where there is none."""
    judge = (_default_options(task) or {}).get("judge")
    return None if judge is None else str(judge)
