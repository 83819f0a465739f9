"""Holds a candidate against a baseline: `python -m runners.regress baseline=RUN candidate=RUN`.

The exit code is the verdict: 0 no significant drop, 1 a significant drop, 3 it cannot be told. With
2 the runs cannot be compared. Only stored scores are read; no model is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runners import errors
from runners.errors import DISK_FULL, ConfigError
from runners.logs import RunLog, doing, stdout_columns
from runners.options import program
from runners.options.build import named_tasks, read_settings
from runners.options.names import VERDICT
from runners.options.regress import RegressConfig
from runners.storage.files import write_atomic, write_json
from runners.storage.stored import StoredRun, find_run
from runners.views.gate.gate import FAIL, PASS, UNDECIDED, Verdict, judge
from runners.views.gate.pairing import pair_runs
from runners.views.gate.verdict import JSON_FILE, PAGES, render_text, to_json

logger = logging.getLogger(__name__)

_EXIT_CODES = {PASS: errors.COMPLETE, FAIL: errors.INCOMPLETE, UNDECIDED: errors.UNDECIDED}


def regress(config: DictConfig) -> int:
    """Compares the runs that one composed configuration names and returns the exit code."""
    named = named_tasks(config)
    config.tasks, config.data = {}, {}  # nothing is asked of them, so they need not be complete
    try:
        with suppress(ConfigError, OmegaConfBaseException):  # which is said below, in one message
            _clear(_folder(config))
        settings = read_settings(config, RegressConfig)
        with RunLog():
            return _compare(named, settings)
    except OSError as error:  # a verdict that cannot be written is no verdict; code 1 would be one
        remedy = "Make room there, or give" if error.errno in DISK_FULL else "Give"
        raise ConfigError(
            f"The verdict cannot be read or written: {error}. {remedy} another folder with "
            "output=DIR."
        ) from error


def _compare(named: Sequence[str], settings: RegressConfig) -> int:
    (baseline, candidate), output = _runs(settings), _folder(settings)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`output` must name a folder, but {output} is a file.")
    with doing("comparing the scores"):
        pairs, uncompared = pair_runs(baseline, candidate, named, seed=settings.seed)
    if not settings.allow_same and (same := [pair.task for pair in pairs if pair.is_same]):
        raise ConfigError(
            f"`candidate` ({candidate.folder}) and `baseline` ({baseline.folder}) are one run of "
            f"{', '.join(same)}, which cannot have dropped against itself. Name the run that is to "
            "be judged as candidate=RUN, or allow it with allow_same=true."
        )
    found = Verdict(
        baseline=baseline,
        candidate=candidate,
        settings=settings,
        tasks=judge(pairs, settings),
        uncompared=uncompared,
    )
    print(render_text(found, stdout_columns()))
    for name, render in PAGES.items():
        write_atomic(output / name, render(found))
    write_json(output / JSON_FILE, to_json(found))
    logger.info("verdict in %s", output)
    return _EXIT_CODES[found.overall]


def _runs(given: RegressConfig | DictConfig) -> Sequence[StoredRun]:
    results_dir = Path(str(given.results_dir))
    names = ("baseline", "candidate")
    return [find_run(str(getattr(given, name)), results_dir, name) for name in names]


def _folder(given: RegressConfig | DictConfig) -> Path:
    """Where the verdict goes."""
    if given.output:
        return Path(str(given.output))
    baseline, candidate = _runs(given)
    return candidate.folder / f"{VERDICT}{baseline.name}"


def _clear(output: Path) -> None:
    """Removes the last verdict, which must not outlive a refusal."""
    if output.is_dir():
        for name in (JSON_FILE, *PAGES):
            (output / name).unlink(missing_ok=True)


main = partial(program.main, "regress", regress)

if __name__ == "__main__":
    main()
