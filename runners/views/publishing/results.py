"""The files `.eval_results/*.yaml` of a model on the hub, and the table of its model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from evals.errors import DataError
from evals.reading.hub import HubLocation
from evals.records import Unit
from runners.environment import installed_version
from runners.errors import ConfigError
from runners.storage.manifest import Manifest
from runners.storage.run_table import render_causes, render_markdown, summary_rows
from runners.storage.specs import read_spec
from runners.storage.stored import StoredTask
from runners.storage.summary import SummaryFile

FOLDER = ".eval_results"
"""Where a model's repository on the hub has its results."""
_DEFAULT_TASK = "default"
"""What the hub calls the task of a data set that has only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark of a run that may be published.

    Attributes:
        summary: The figures.
        manifest: What the answers are of.
        location: The data set on the hub.
    """

    summary: SummaryFile
    manifest: Manifest
    location: HubLocation

    @property
    def file_name(self) -> str:
        """The file in `FOLDER` that holds it."""
        return f"{self.summary.task}.yaml"

    def entry(self) -> EvalResultEntry:
        """Returns it as the hub's own library has it, with what decided the figure as notes."""
        of = self.summary
        value = of.scale(of.primary_metric).in_print(of.metrics[of.primary_metric] or 0.0)
        return EvalResultEntry(
            dataset_id=self.location.repo,
            task_id=self.location.config or _DEFAULT_TASK,
            value=round(value, 2 if of.scale(of.primary_metric).unit is not Unit.NUMBER else 4),
            date=self.manifest.started,
            notes=self.notes(),
        )

    def notes(self) -> str:
        """Returns metric and definition, split and interval, and how the model was asked."""
        of, identity = self.summary, self.manifest.identity
        [row] = summary_rows([of])
        unit = {Unit.SHARE: " in percent", Unit.POINTS: " in points"}
        quantization = identity.get("quantization")
        told = [
            f"{of.primary_metric}{unit.get(of.scale(of.primary_metric).unit, '')}",
            f"definition {of.definition}",
            f"split {of.split}",
            f"{of.num_questions:,} questions",
            f"95% interval {row['95% interval']}" if of.interval else "",
            f"{of.num_questions - of.num_answered:,} without an answer count as wrong "
            f"({render_causes(of)})"
            if of.coverage < 1
            else "",
            f"judge {of.judge.model}" if of.judge else "",
            f"template {identity['conversation']}" if "conversation" in identity else "",
            str(identity.get("dtype") or ""),
            str(quantization["name"]) if isinstance(quantization, dict) else "",
            "answers from elsewhere" if self.manifest.imported_sha256 else "",
            f"llava-evals {installed_version('llava-evals') or ''}".strip(),
        ]
        return ", ".join(filter(None, told))


def read_result(task: StoredTask) -> Result:
    """Returns a benchmark of a run, if its score is one of the published data.

    Raises:
        ConfigError: it is unfinished, edited, of a part of the data or of other data, has no score,
            or its data are not on the hub.
        DataError: a file is malformed.
    """
    finished = task.finished()
    summary, manifest = finished.summary, finished.manifest
    if summary.metrics.get(summary.primary_metric) is None:
        raise ConfigError(f"{task.name} {summary.split} has no score.")
    expected = summary.expected_num_questions
    if summary.origin.limited or manifest.shard is not None:
        raise ConfigError(f"Only a part of {task.name} {summary.split} was asked.")
    if expected is not None and summary.num_questions != expected:
        raise ConfigError(
            f"{task.name} {summary.split} has {expected:,} questions as published, but "
            f"{summary.num_questions:,} were asked."
        )
    try:
        location = read_spec(manifest, task.folder).build().hub
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{task.name} cannot be told from other benchmarks: {error}") from error
    if location is None:
        raise ConfigError(f"No data set on the hub is known for {task.name} {summary.split}.")
    return Result(summary=summary, manifest=manifest, location=location)


def render_files(results: Iterable[Result]) -> dict[str, str]:
    """Returns the content of each file by its name in `FOLDER`."""
    return {
        result.file_name: yaml.safe_dump(
            eval_result_entries_to_yaml([result.entry()]), sort_keys=False, allow_unicode=True
        )
        for result in results
    }


def render_card(results: Sequence[Result]) -> str:
    """Returns the table for the model card, in Markdown."""
    rows = []
    for result, row in zip(results, summary_rows(r.summary for r in results), strict=True):
        repo = result.location.repo
        link = f"[{row['task']}](https://huggingface.co/datasets/{repo})"
        rows.append({**row, "task": link, "definition": result.summary.definition})
    how = "\n".join(f"- {result.summary.task}: {result.notes()}" for result in results)
    return f"## Evaluation results\n\n{render_markdown(rows)}\n{how}\n"
