"""Evaluates a checkpoint on benchmarks: `python -m runners.eval model=... task=...`.

Questions are read, rendered and tokenized here; a worker process holds the model and answers them.
Each answer is stored as it comes, so that the same command goes on after any interruption.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

    from runners.options.eval import EvalConfig
    from runners.options.task_spec import TaskSpec


def evaluate(config: DictConfig) -> int:
    """Runs one composed configuration, or a stored run again; returns the exit code."""
    from runners.options.build import read_settings, read_task_specs
    from runners.options.eval import EvalConfig
    from runners.options.given import read_given

    settings = read_settings(config, EvalConfig)
    if settings.manifest is None:
        return _evaluate(settings, read_task_specs(config))
    from runners.evaluation.rerun import rerun

    return rerun(settings, read_given(config), _evaluate)


def _evaluate(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
    from runners.environment import process_age_s, resume_command
    from runners.evaluation.course import PROGRAM, Course
    from runners.logs import RunLog
    from runners.options.program import is_later_job
    from runners.signals import Interruption

    with RunLog() as log, Interruption() as interruption:
        try:
            course = Course(
                settings=settings,
                specs=specs,
                log=log,
                interruption=interruption,
                since_s=process_age_s() if is_later_job() else 0.0,
            )
            with course:
                return course.run()
        except KeyboardInterrupt:
            print(f"Stopped. To go on: {resume_command(PROGRAM)}", file=sys.stderr)
            return interruption.exit_code


def main() -> None:
    """The program."""
    from runners.options.program import main as run_program
    from runners.options.words import imply_checkpoint

    sys.argv[1:] = imply_checkpoint(sys.argv[1:])
    run_program("eval", evaluate)


# A worker process imports this module under another name, hence the late imports above.
if __name__ == "__main__":
    main()
