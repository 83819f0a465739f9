"""Scores saved answers without the model: `python -m runners.score task=... predictions=...`.

`predictions=FILE output=DIR` scores an answer file, `predictions=FILE run=NAME` makes a stored run
of it, `run=NAME merge=[PART,PART]` joins the parts of a run, and `run=NAME` alone scores a stored
run again.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.logs import RunLog, doing, stdout_columns
from runners.options import program
from runners.options.build import read_settings
from runners.options.given import TaskChoice, read_task_choice
from runners.options.names import check_run_name
from runners.options.score import JudgeOptions, ScoreConfig
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_file, score_stored
from runners.storage.asked import Asked
from runners.storage.importing import read_import, store_import
from runners.storage.lock import FolderLock
from runners.storage.merging import merge_task, part_names, read_part_specs
from runners.storage.run_table import render_summaries, write_tables
from runners.storage.specs import read_run_specs
from runners.storage.stored import StoredTask, find_run
from runners.storage.summary import SummaryFile

logger = logging.getLogger(__name__)


def score(config: DictConfig) -> int:
    """Scores what one composed configuration names and returns the exit code."""
    settings = read_settings(config, ScoreConfig)
    choice = read_task_choice(config)
    _check_form(choice, settings)
    with RunLog():
        return _score(choice, settings)


def _check_form(choice: TaskChoice, settings: ScoreConfig) -> None:
    """Checks that the options name one of the things that can be scored."""
    if settings.merge is not None and (settings.predictions is not None or settings.run is None):
        raise ConfigError(
            "`merge` needs the `run` that its parts are joined into, and no `predictions`. Use "
            "run=NAME."
        )
    if settings.predictions is None and settings.run is None:
        raise ConfigError(
            "`predictions` or `run` must be given. Use predictions=ANSWERS.jsonl for an answer "
            "file, run=NAME for a stored run."
        )
    if settings.predictions is not None and (settings.run is None) == (settings.output is None):
        raise ConfigError(
            "`predictions` needs either an `output` folder, or a `run` to be made of it. Use "
            "output=DIR or run=NAME."
        )
    if settings.predictions is not None and len(choice.specs) != 1:
        raise ConfigError("`predictions` needs exactly one `task`. Use task=NAME.")
    makes_run = settings.predictions is not None or settings.merge is not None
    if makes_run and settings.run is not None:
        check_run_name(settings.run)


def _score(choice: TaskChoice, settings: ScoreConfig) -> int:
    run_dir = Path(settings.results_dir) / str(settings.run)
    if settings.predictions is not None:
        [spec] = choice.specs.values()
        results = [_score_file(spec, settings, run_dir)]
    elif settings.merge is not None:
        names = part_names(settings.merge, run_dir.name)
        parts = [run_dir.with_name(name) for name in names]
        specs = read_part_specs(choice, parts)
        _check_judge(specs, settings)
        results = []
        for spec in specs.values():
            merged = merge_task(spec, parts, run_dir, overwrite=settings.overwrite)
            stored = StoredTask(run_dir / spec.build().name)
            results.append(_score_task(spec, stored, settings, merged))
    else:
        run = find_run(str(settings.run), Path(settings.results_dir), "run")
        run_dir = run.folder
        specs = read_run_specs(choice, run)
        _check_judge(specs, settings)
        for name in specs:  # before any is scored
            _read_asked(StoredTask(run_dir / name))
        results = [
            _score_task(spec, StoredTask(run_dir / name), settings) for name, spec in specs.items()
        ]
    if settings.output is None:
        write_tables(run_dir)
    table = render_summaries(results, stdout_columns())
    print(table if settings.run is None else f"{run_dir.resolve().name}\n{table}")
    return COMPLETE if all(summary.is_complete for summary in results) else INCOMPLETE


def _check_judge(specs: Mapping[str, TaskSpec], settings: ScoreConfig) -> None:
    asked_how = [
        each.name
        for each in fields(JudgeOptions)
        if each.name not in ("name", "model", "prices")
        and getattr(settings.judge, each.name) != each.default
    ]
    if settings.judge.name == "none" and asked_how:
        raise ConfigError(
            f"`judge.{asked_how[0]}` is given, but no judge is asked without judge=openai. Add "
            f"judge=openai, or leave judge.{asked_how[0]} out."
        )
    judged = [name for name, spec in specs.items() if spec.build().grading is not None]
    if settings.judge.name != "none" and not judged:
        raise ConfigError(
            f"judge={settings.judge.name} is given, but no judge grades {', '.join(specs)}. Leave "
            "it out."
        )


def _score_file(spec: TaskSpec, settings: ScoreConfig, run_dir: Path) -> SummaryFile:
    """Scores a foreign answer file, of which a run is made first if it is named."""
    task = spec.build()
    _check_judge({task.name: spec}, settings)
    with doing(f"reading {settings.predictions}"):
        found = read_import(task, str(settings.predictions))
    if settings.run is None:
        with doing(f"scoring {task.name}"):
            return score_file(spec, found, Path(str(settings.output)) / task.name, settings.judge)
    imported = store_import(found, task, spec, run_dir, overwrite=settings.overwrite)
    return _score_task(spec, StoredTask(run_dir / task.name), settings, imported)


def _score_task(
    spec: TaskSpec, stored: StoredTask, settings: ScoreConfig, asked: Asked | None = None
) -> SummaryFile:
    """Scores a stored task, into its folder or below `output`.

    What was asked is read from its summary where it is not given.
    """
    # what is scored must not change before the figures are written beside it
    lock = FolderLock(stored.folder) if settings.output is None else nullcontext()
    with lock, doing(f"scoring {stored.name}"):
        asked = _read_asked(stored) if asked is None else asked
        return score_stored(
            spec,
            stored,
            stored.folder if settings.output is None else Path(settings.output) / stored.name,
            settings.judge,
            origin=asked.origin,
            num_questions=asked.num_questions,
            prompts_hash=asked.prompts_hash,
        )


def _read_asked(stored: StoredTask) -> Asked:
    """What was asked, as the summary of a stored task says."""
    summary = stored.summary
    if summary is None:
        raise ConfigError(f"{stored.folder} holds no complete run. {_way_to_complete(stored)}")
    return Asked(
        num_questions=summary.num_questions,
        prompts_hash=summary.hashes.prompts,
        origin=summary.origin,
    )


def _way_to_complete(stored: StoredTask) -> str:
    """What gives a task without figures some, which depends on where its answers are from."""
    manifest = stored.manifest
    last = manifest.history[-1] if manifest is not None and manifest.history else {}
    again = f"python -m runners.score {stored.run_options}"
    if manifest is not None and manifest.imported_sha256 is not None:
        file = shlex.quote(f"predictions={last.get('file', 'FILE')}")
        return f"Repeat the command that imported it: {again} {file}"
    if "merged" in last:
        return f"Repeat the command that joined its parts: {again} merge=..."
    return "Repeat the command of runners.eval that began it."


main = partial(program.main, "score", score)

if __name__ == "__main__":
    main()
