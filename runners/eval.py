"""Evaluates a checkpoint on benchmarks: `python -m runners.eval model=... task=...`.

Questions are read, rendered and tokenized here; a worker process holds the model and answers them.
Each answer is stored as it comes, so that the same command goes on after any interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from runners.options.eval import EvalConfig
    from runners.options.task_spec import TaskSpec


def evaluate(config: DictConfig) -> int:
    """Runs one composed configuration, or a stored run again; returns the exit code."""
    from evals.reading.files import collection_paused
    from runners.logs import PLAIN, doing, lines_only
    from runners.options.build import read_settings, read_task_specs
    from runners.options.eval import EvalConfig
    from runners.options.given import read_given

    settings = read_settings(config, EvalConfig)
    specs = read_task_specs(config) if settings.manifest is None else {}
    with lines_only(settings.quiet or settings.log != PLAIN):
        with (
            collection_paused(),
            doing("loading libraries"),
        ):  # with transformers, which no wrong option has to wait for
            from runners.evaluation.course import run_course
            from runners.evaluation.rerun import rerun

        run = partial(_run, run_course)
        if settings.manifest is None:
            return run(settings, specs)
        return rerun(settings, read_given(config), run)


def _run(
    run_course: Callable[[EvalConfig, Mapping[str, TaskSpec]], int],
    settings: EvalConfig,
    specs: Mapping[str, TaskSpec],
) -> int:
    """Runs one evaluation, and sends its figures where the options say."""
    from runners.errors import COMPLETE, INCOMPLETE
    from runners.in_training.wandb_logging import log_to_project, require_wandb
    from runners.logs import PLAIN, RunLog
    from runners.options.names import run_name

    if settings.wandb is None or settings.dry_run:
        return run_course(settings, specs)
    require_wandb()
    code = run_course(settings, specs)
    if code not in (COMPLETE, INCOMPLETE):
        return code
    with RunLog(quiet=settings.quiet, form=settings.log):
        folder = Path(settings.results_dir, run_name(settings))
        quiet = settings.quiet or settings.log != PLAIN
        return max(code, log_to_project(folder, settings.wandb, quiet=quiet))


def main() -> None:
    """The program."""
    from runners.options.program import main as run_program
    from runners.options.words import imply_checkpoint, spell_out_flags

    run_program("eval", evaluate, lambda argv: imply_checkpoint(spell_out_flags(argv)))


# A worker process imports this module under another name, hence the late imports above.
if __name__ == "__main__":
    main()
