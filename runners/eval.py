"""Evaluates a checkpoint on benchmarks: `python -m runners.eval model=... task=...`.

Questions are read, rendered and tokenized here; a worker process holds the model and answers them.
Each answer is stored as it comes, so that the same command goes on after any interruption.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: DictConfig) -> int:
    """Runs one composed configuration, or a stored run again; returns the exit code."""
    from evals.reading.files import collection_paused
    from runners.logs import doing
    from runners.options.build import read_settings, read_task_specs
    from runners.options.eval import EvalConfig
    from runners.options.given import read_given

    settings = read_settings(config, EvalConfig)
    specs = read_task_specs(config) if settings.manifest is None else {}
    with (
        collection_paused(),
        doing("loading libraries"),
    ):  # with transformers, which no wrong option has to wait for
        from runners.evaluation.course import run_course
        from runners.evaluation.rerun import rerun

    if settings.manifest is None:
        return run_course(settings, specs)
    return rerun(settings, read_given(config), run_course)


def main() -> None:
    """The program."""
    from runners.options.program import main as run_program
    from runners.options.words import imply_checkpoint

    run_program("eval", evaluate, imply_checkpoint)


# A worker process imports this module under another name, hence the late imports above.
if __name__ == "__main__":
    main()
