"""Holds a candidate against a baseline: `python -m runners.regress baseline=RUN candidate=RUN`.

The exit code is the verdict: 0 no significant drop, 1 a significant drop, 2 it cannot be told, or
the runs cannot be compared. Only stored scores are read; no model is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runners.errors import DISK_FULL, ConfigError
from runners.logs import RunLog
from runners.options.build import read_settings
from runners.options.regress import RegressConfig
from runners.storage.files import write_atomic, write_json
from runners.storage.stored import StoredRun, find_run
from runners.views.gate.gate import FAIL, PASS, UNDECIDED, Rule, judge, overall
from runners.views.gate.pairing import pair_runs
from runners.views.gate.verdict import (
    JSON_FILE,
    JUNIT_FILE,
    MARKDOWN_FILE,
    render_junit,
    render_markdown_page,
    render_text,
    to_json,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_EXIT_CODES = {PASS: 0, FAIL: 1, UNDECIDED: 2}


def regress(config: DictConfig) -> int:
    """Compares the runs that one composed configuration names and returns the exit code."""
    named = list(config.tasks)
    config.tasks, config.data = {}, {}  # nothing is asked of them, so they need not be complete
    settings = read_settings(config, RegressConfig)
    with RunLog(), _explaining_disk_errors():
        baseline, candidate = (
            find_run(getattr(settings, option), Path(settings.results_dir), option)
            for option in ("baseline", "candidate")
        )
        if baseline.folder.resolve() == candidate.folder.resolve():
            logger.warning("baseline and candidate are one run: %s cannot drop", baseline.folder)
        output = _prepare_output(settings, baseline, candidate)
        pairs, remarks = pair_runs(baseline, candidate, named, seed=settings.seed)
        rule = Rule(alpha=settings.alpha, max_drop=settings.max_drop)
        verdicts = judge(pairs, rule)
        title = f"{candidate.name} against {baseline.name}"
        print(render_text(title, verdicts, remarks))
        write_atomic(output / MARKDOWN_FILE, render_markdown_page(title, verdicts, remarks))
        write_atomic(output / JUNIT_FILE, render_junit(title, verdicts))
        write_json(output / JSON_FILE, to_json(verdicts))
        logger.info("verdict in %s", output)
    return _EXIT_CODES[overall(verdicts)]


@contextmanager
def _explaining_disk_errors() -> Iterator[None]:
    """A verdict that cannot be written is no verdict; exit code 1 would be one."""
    try:
        yield
    except OSError as error:
        remedy = "Make room there, or give" if error.errno in DISK_FULL else "Give"
        raise ConfigError(
            f"The verdict cannot be read or written: {error}. {remedy} another folder with "
            "output=DIR."
        ) from error


def _prepare_output(settings: RegressConfig, baseline: StoredRun, candidate: StoredRun) -> Path:
    """The folder for the verdict, cleared of the last one, which must not outlive a refusal."""
    output = candidate.folder / f"regress-{baseline.name}"
    if settings.output is not None:
        output = Path(settings.output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`output` must name a folder, but {output} is a file.")
    for name in (JSON_FILE, MARKDOWN_FILE, JUNIT_FILE):
        (output / name).unlink(missing_ok=True)
    return output


def main() -> None:
    """The program."""
    from runners.options.program import main as run_program

    run_program("regress", regress)


if __name__ == "__main__":
    main()
