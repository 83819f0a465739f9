"""Jobs of a sweep: their runs before they begin, and what each came to, on any machine."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from runners.errors import COMPLETE, ConfigError
from runners.logs import tell
from runners.options.build import named_tasks, read_settings
from runners.options.composing import own_hydra
from runners.options.eval import EvalConfig
from runners.options.names import found_from_anywhere, run_name

_figures: dict[str, str] = {}


def note_figures(figures: Mapping[str, str]) -> None:
    """Keeps what the running job came to, by column, for the table at the end of a sweep."""
    _figures.update(figures)


def take_figures() -> dict[str, str]:
    """Returns what was noted since the last call."""
    taken = dict(_figures)
    _figures.clear()
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """One job of a sweep that was run.

    Attributes:
        num: Counted from 0.
        code: Its exit code.
        overrides: The options on its command line.
        figures: What it came to, by column.
    """

    num: int
    code: int
    overrides: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


def render_jobs(jobs: Sequence[EndedJob]) -> str:
    """Returns the table of a sweep: exit code and figures of each job, and what tells it apart.

    >>> jobs = [EndedJob(num=n, code=0, overrides=["a=1", f"b={n}"]) for n in range(2)]
    >>> print(render_jobs(jobs))
    job  exit  options
    1    0     b=0
    2    0     b=1
    """
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    columns = list(dict.fromkeys(name for job in jobs for name in job.figures))
    rows = [["job", "exit", *columns, "options"]]
    for job in jobs:
        own = " ".join(word for word in job.overrides if word not in shared)
        cells = [job.figures.get(name, "-") for name in columns]
        rows.append([str(job.num + 1), str(job.code), *cells, own])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def require_runs_apart(words: Sequence[str]) -> None:
    """Checks that no job of a sweep would go on with, or set aside, what another has written.

    Jobs of one checkpoint may share a run: that is how the same answers are scored in two ways.

    Raises:
        ConfigError: two would ask different checkpoints, or overwrite, under one name.
    """
    runs: dict[tuple[Path, str], dict[int, EvalConfig]] = {}
    for number, config in enumerate(_compose_jobs(words), 1):
        try:
            with _hydra_of_job(config, number - 1):
                settings, tasks = read_settings(config, EvalConfig), named_tasks(config)
                folder = Path(settings.results_dir, run_name(settings))
        except (ConfigError, OmegaConfBaseException):
            continue  # which the job itself will say
        if settings.manifest is None:  # which names another run
            for task in tasks:
                runs.setdefault((folder, task), {})[number] = settings
    for (folder, _), jobs in runs.items():
        (first, before), *later = jobs.items()
        for number, job in later:
            told = [
                f"`model.{name}` is {one} in the one and {other} in the other"
                for name in ("path", "base", "revision")
                for one, other in [[str(getattr(of.model, name)) for of in (before, job)]]
                if found_from_anywhere(one) != found_from_anywhere(other)
            ]
            if told:
                why = f"but ask different checkpoints: {'; '.join(told)}"
            elif before.overwrite or job.overwrite:
                why = "and with overwrite=true the one would set aside the answers of the other"
            else:
                continue
            raise ConfigError(
                f"Jobs {first} and {number} of the sweep would be kept in {folder} together, {why}."
                " No job was begun. Give each a command of its own with another run=NAME."
            )


@contextmanager
def _hydra_of_job(config: DictConfig, number: int) -> Iterator[None]:
    """While it is entered, `${hydra:job.num}` is the job's; the options are left to themselves."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        with open_dict(config):
            config.hydra.job.num = number
            hydra.set_config(config)
            del config["hydra"]
        yield
    finally:
        hydra.cfg = before


def _compose_jobs(words: Sequence[str]) -> list[DictConfig]:
    """The options of every job; none where another sweeper finds them as it goes."""
    with own_hydra():
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration("eval", list(words), run_mode=RunMode.MULTIRUN)
        if not sweep.hydra.sweeper._target_.endswith(f".{BasicSweeper.__name__}"):
            return []
        given = [f"{name}={value}" for name, value in (sweep.hydra.sweeper.params or {}).items()]
        typed: Any = OmegaConf.to_container(sweep.hydra.overrides.task, resolve=False)
        parsed = OverridesParser.create(loader).parse_overrides([*given, *typed])
        [jobs] = BasicSweeper.split_arguments(parsed, None)
        return [loader.load_sweep_config(sweep, list(job)) for job in jobs]


class RemoteJobs:
    """What became of the jobs that did not run in the process that began the sweep.

    They come back through a folder below the cache, which the machines of a cluster share as they
    share the home directory.
    """

    def __init__(self, cache_dir: str) -> None:
        self._folder = Path(cache_dir).resolve() / "sweeps" / uuid.uuid4().hex
        self._home = _this_process()

    @property
    def is_remote(self) -> bool:
        """Whether this is another process than that which began the sweep."""
        return self._home != _this_process()

    def tell(self, job: EndedJob) -> None:
        """Leaves what became of a job for the process that began the sweep."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f".{job.num}.tmp"
        scratch.write_text(json.dumps(asdict(job)), encoding="ascii")
        scratch.replace(self._folder / str(job.num))

    def collect(self) -> list[EndedJob]:
        """Returns what was left, by number; it is removed, and the exit codes are printed."""
        try:
            is_there = self._folder.is_dir()
        except PermissionError:  # the home is closed to this user, and so to every job
            is_there = False
        if not is_there:
            return []
        files = {int(path.name): path for path in self._folder.iterdir() if path.name.isdigit()}
        jobs = [EndedJob(**json.loads(files[num].read_bytes())) for num in sorted(files)]
        for job in jobs:
            told = f"Job {job.num + 1} of the sweep ended with exit code {job.code}"
            tell(told, logging.INFO if job.code == COMPLETE else logging.ERROR)
        shutil.rmtree(self._folder)
        return jobs


def is_lost_job(error: BaseException) -> bool:
    """Whether an error says that a job of a launcher ended without an answer."""
    return type(error).__module__.partition(".")[0] == "submitit"


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()
