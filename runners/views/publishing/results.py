"""The files `.eval_results/*.yaml` of a model on the hub, and the table of its model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from evals.errors import DataError
from evals.reading.hub import HubLocation
from evals.records import Unit
from runners.environment import installed_version
from runners.errors import ConfigError
from runners.options.task_spec import TaskSpec
from runners.storage.manifest import Manifest
from runners.storage.run_table import render_lack, render_markdown, summary_rows
from runners.storage.specs import scored_spec
from runners.storage.stored import StoredTask
from runners.storage.summary import SummaryFile
from runners.views.definitions import not_present, other_options, render_options
from runners.views.leaderboard.entries import printable
from runners.views.setups import model_template, setup_of

FOLDER = ".eval_results"
"""Where a model's repository on the hub has its results."""
CARD = "model_card.md"
_PROGRAM = "llava-evals"
_SIGNED = re.compile(rf", {_PROGRAM}( \S+)?$", re.MULTILINE)
_CARD_TITLE = "## Evaluation results\n"
_DEFAULT_TASK = "default"
"""What the hub calls the task of a data set that has only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark of a run that may be published.

    Attributes:
        summary: The figures.
        manifest: What the answers are of.
        spec: The task as it was scored.
        location: The data set on the hub; None where there is none, so that no file is written.
    """

    summary: SummaryFile
    manifest: Manifest
    spec: TaskSpec
    location: HubLocation | None

    @property
    def file_name(self) -> str:
        """The file in `FOLDER` that holds it."""
        return f"{self.summary.task}.yaml"

    def entry(self, location: HubLocation) -> EvalResultEntry:
        """Returns it as the hub's own library has it, with what decided the figure as notes."""
        of = self.summary
        value = of.scale(of.primary_metric).in_print(of.metrics[of.primary_metric] or 0.0)
        return EvalResultEntry(
            dataset_id=location.repo,
            task_id=location.config or _DEFAULT_TASK,
            value=round(value, 2 if of.scale(of.primary_metric).unit is not Unit.NUMBER else 4),
            date=self.manifest.started,
            notes=self.notes(),
        )

    def notes(self) -> str:
        """Returns metric and definition, split and interval, and how the model was asked."""
        of = self.summary
        [row] = summary_rows([of])
        unit = {Unit.SHARE: " in percent", Unit.POINTS: " in points"}
        options = other_options(of.task, self.spec, self.manifest)
        template = model_template(self.manifest)
        told = [
            f"{of.primary_metric}{unit.get(of.scale(of.primary_metric).unit, '')}",
            f"definition {of.definition}",
            f"split {of.split}" + (" (generated data)" if of.split == "demo" else ""),
            f"{of.num_questions:,} questions",
            f"of which {of.num_answered:,} {render_lack(of)}" if of.coverage < 1 else "",
            f"95% interval {row['95% interval']}" if of.interval else "",
            f"judge {of.judge.model}" if of.judge else "",
            *setup_of(self.manifest, self.spec),
            f"though the model has the template {template}" if template else "",
            render_options(options) if options else "",
            "answers from elsewhere" if self.manifest.imported_sha256 else "",
            f"{_PROGRAM} {installed_version(_PROGRAM) or ''}".strip(),
        ]
        return printable(", ".join(filter(None, told)))


def read_result(task: StoredTask) -> Result:
    """Returns a benchmark of a run, if its score is one of the published data.

    Raises:
        ConfigError: it is unfinished, edited, of a part of the data or of other data, or has no
            score; or the present code means another figure by its name.
        DataError: a file is malformed.
    """
    finished = task.finished()
    summary, manifest = finished.summary, finished.manifest
    if summary.metrics.get(summary.primary_metric) is None:
        raise ConfigError(f"{task.name} {summary.split} has no score.")
    if summary.on_other_data:
        raise ConfigError(f"{task.name} {summary.split} is {summary.on_other_data}.")
    expected = summary.expected_num_questions
    if summary.origin.limited or manifest.shard is not None:
        raise ConfigError(f"Only a part of {task.name} {summary.split} was asked.")
    if expected is not None and summary.num_questions != expected:
        raise ConfigError(
            f"{task.name} {summary.split} has {expected:,} questions as published, but "
            f"{summary.num_questions:,} were asked."
        )
    try:
        spec = scored_spec(summary, manifest, task.folder)
        location = spec.build().hub
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{task.name} cannot be told from other benchmarks: {error}") from error
    if told := not_present(spec, summary):
        told = told.replace("run=NAME", task.run_options)
        raise ConfigError(f"{task.name} is not published, {told}.")
    return Result(summary=summary, manifest=manifest, spec=spec, location=location)


def render_files(results: Iterable[Result]) -> dict[str, str]:
    """Returns the content of each file by its name in `FOLDER`, as far as there is a data set."""
    return {
        result.file_name: yaml.safe_dump(
            eval_result_entries_to_yaml([result.entry(result.location)]),
            sort_keys=False,
            allow_unicode=True,
        )
        for result in results
        if result.location is not None
    }


def render_card(results: Sequence[Result]) -> str:
    """Returns the table for the model card, in Markdown."""
    rows = []
    for result, row in zip(results, summary_rows(r.summary for r in results), strict=True):
        name = printable(row["task"])
        if result.location is not None:
            name = f"[{name}](https://huggingface.co/datasets/{result.location.repo})"
        rows.append({**row, "task": name, "definition": printable(result.summary.definition)})
    how = "\n".join(f"- {result.summary.task}: {result.notes()}" for result in results)
    return f"{_CARD_TITLE}\n{render_markdown(rows)}\n{how}\n"


def clear(output: Path) -> list[Path]:
    """Removes what an earlier call has left in a folder; returns the results that it did not write.

    A figure that is no longer published must not stay beside those that are. Whatever does not end
    its notes with this program's name is somebody else's, and is left alone.
    """
    card = output / CARD
    if card.is_file() and _is_own_card(_read(card)):
        card.unlink()
    foreign = []
    for path in sorted((output / FOLDER).glob("*.yaml")):
        if path.is_file() and _is_own_result(_read(path)):
            path.unlink()
        else:
            foreign.append(path)
    return foreign


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _is_own_card(text: str) -> bool:
    return text.startswith(_CARD_TITLE) and _SIGNED.search(text) is not None


def _is_own_result(text: str) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    entries = content if isinstance(content, list) else []
    notes = [str(each.get("notes")) if isinstance(each, dict) else "" for each in entries]
    return bool(notes) and all(_SIGNED.search(note) for note in notes)
