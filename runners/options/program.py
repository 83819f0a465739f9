"""The one wrapper around `hydra.main`: what goes in, what comes out, and with which exit code.

Exit codes of every program: 0 complete, 1 incomplete, 2 bad configuration, data or checkpoint, 3 a
gate that cannot decide, 130 after Ctrl-C, 143 after SIGTERM. A sweep runs every job and exits with
130 or 143 if it was interrupted, else 2 if any job did, else 1 if any did, else 3 if any did. An
error is one paragraph on stderr; `HYDRA_FULL_ERROR=1` adds the traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from evals.errors import DataError
from llava.errors import CheckpointError, ConversationError
from runners.environment import launched_rank
from runners.errors import (
    BAD_INPUT,
    COMPLETE,
    DISK_FULL,
    INCOMPLETE,
    INTERRUPTED,
    TERMINATED,
    UNDECIDED,
    CanaryError,
    ConfigError,
    JudgeError,
    StoreError,
    WorkerError,
    WriteError,
)
from runners.logs import drop_output, mask_secrets, print_rest, tell
from runners.options.complaints import (
    FORBIDDEN,
    FULL_ERROR,
    NO_PATH,
    NO_PLACE,
    explain_disk_error,
    report,
)
from runners.options.eval import EvalConfig
from runners.options.help_text import render_help
from runners.options.include import split_include, use_folders
from runners.options.mistakes import find_mistakes
from runners.options.register import SCHEMAS, cache_dir, register
from runners.options.sweep_jobs import (
    EndedJob,
    RemoteJobs,
    is_lost_job,
    render_jobs,
    require_runs_apart,
    take_figures,
)
from runners.options.words import is_multirun, quote_free_text, quote_literally
from runners.signals import ignore_interrupts, stop_once

BAD_INPUT_ERRORS = (
    CheckpointError,
    ConfigError,
    ConversationError,
    DataError,
    HydraException,
    OmegaConfBaseException,
)

_BEGINS_ANEW = (
    "With overwrite=true the same command begins anew. Once the old answers are set aside "
    "(*.old-N), overwrite=false goes on with what is stored since then."
)


def main(
    config_name: str,
    job: Callable[[DictConfig], int],
    rewrite: Callable[[Sequence[str]], Sequence[str]] = list,
) -> NoReturn:
    """Composes `conf/<config_name>.yaml` from the rewritten command line, runs `job`, exits.

    `job` does the work of one composed configuration and returns its exit code. Where a launcher of
    trainings started the program several times, the first process does it and the others end.
    """
    if (launched := launched_rank()) and not _does_the_work(*launched):
        sys.exit(COMPLETE)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # half a character may be anyone's
    sys.argv[1:] = rewrite(sys.argv[1:])
    sys.excepthook = _report_unexpected
    stop_once()
    try:
        code = run(config_name, job, sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    ignore_interrupts()
    sys.exit(print_rest(code))


def _does_the_work(rank: int, count: int) -> bool:
    """Whether this process is the one of several that works; says so."""
    if rank == 0:
        tell(
            f"torchrun, accelerate launch or another launcher started this program {count} times. "
            "This process does all of the work, on every GPU of its machine, and the others end. "
            "Leave the launcher out.",
            logging.WARNING,
        )
    else:
        tell(
            f"Process {rank} of {count} of torchrun or another launcher ends: process 0 does all "
            "of the work. Leave the launcher out.",
            logging.WARNING,
        )
    return rank == 0


def run(config_name: str, job: Callable[[DictConfig], int], argv: Sequence[str]) -> int:
    """Returns the exit code of `job` under the options in `argv`, over all jobs of a sweep."""
    register()
    schema = SCHEMAS[config_name]
    takes_include = any(field.name == "include" for field in fields(schema))
    argv, folders = split_include(argv) if takes_include else (argv, [])
    jobs = _Jobs(job, folders, full_error=os.environ.get(FULL_ERROR))
    try:
        use_folders(folders)
        if any(word in ("--help", "-h") for word in argv):
            print(render_help(config_name, schema, argv))
            return COMPLETE
        _check(argv, config_name, folders)
        with (
            tempfile.TemporaryDirectory(prefix="llava-evals-") as scratch,
            _command_line(_including(folders, _options(argv, scratch, schema))),
            # Lets Hydra's errors through: else it prints them itself and exits with 1.
            _environment(FULL_ERROR, "1"),
        ):
            program = hydra.main(
                version_base="1.3", config_path="pkg://conf", config_name=config_name
            )
            program(jobs)()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as in `--help | head`
        drop_output()
        return COMPLETE
    except (ConfigError, HydraException, OmegaConfBaseException, ValueError) as error:
        if jobs.running:  # a defect of the program, not of its configuration
            raise
        report(error)
        return BAD_INPUT
    except RuntimeError as error:
        if jobs.running or not is_lost_job(error):
            raise
        report(error)
        jobs.codes.append(INCOMPLETE)
    jobs.tell_failures()
    swept = [*jobs.swept, *jobs.remote.collect()]
    if len(swept) > 1:
        with suppress(BrokenPipeError):
            print(mask_secrets(render_jobs(swept)))
    return exit_code([*jobs.codes, *(job.code for job in swept)])


def _check(argv: Sequence[str], config_name: str, folders: Sequence[Path]) -> None:
    """Checks what can be told of a command line before any job begins."""
    schema = SCHEMAS[config_name]
    if mistakes := find_mistakes(argv, config_name, schema):
        raise ConfigError("\n".join(mistakes))
    words = [word for word in quote_free_text(argv, schema) if word not in ("-m", "--multirun")]
    has_flags = any(word.startswith("-") for word in words)  # only Hydra knows what they bring
    if schema is EvalConfig and is_multirun(argv) and not has_flags:
        require_runs_apart(_including(folders, words))


def is_later_job() -> bool:
    """Whether the running job is one of a sweep and not its first."""
    return is_swept_job() and HydraConfig.get().job.num > 0


def is_swept_job() -> bool:
    """Whether the running job is one of a sweep."""
    return HydraConfig.get().mode is RunMode.MULTIRUN


def exit_code(codes: Sequence[int]) -> int:
    """Returns the exit code of a sweep from those of its jobs.

    >>> exit_code([0, 2, 1, 0])
    2
    """
    graver = (INTERRUPTED, TERMINATED, BAD_INPUT, INCOMPLETE, UNDECIDED)
    return next((code for code in graver if code in codes), COMPLETE)


class _Jobs:
    """What hydra.main calls: runs one job of possibly many and keeps its exit code."""

    __name__ = "main"

    def __init__(
        self, job: Callable[[DictConfig], int], folders: Sequence[Path], *, full_error: str | None
    ) -> None:
        self._job = job
        self._folders = folders
        self._argv = sys.argv
        self._full_error = full_error
        self.codes: list[int] = []
        self.swept: list[EndedJob] = []
        self._failures: list[str] = []
        self._num_not_begun = 0
        self.running = False
        self.remote = RemoteJobs(cache_dir())

    def __call__(self, config: DictConfig) -> None:
        codes = {job.code for job in self.swept}
        if INTERRUPTED in codes or TERMINATED in codes:
            self._num_not_begun += 1
            return
        is_swept = is_swept_job()
        if is_swept:
            name = f"Job {HydraConfig.get().job.num + 1} of the sweep"
            overrides = " ".join(HydraConfig.get().overrides.task)
            tell(f"{name}: {overrides}", logging.INFO)
        self.running = True
        take_figures()  # of a job that was none of this sweep
        with _command_line(self._argv[1:]), _environment(FULL_ERROR, self._full_error):
            code = self._run(config)
        self.running = False
        if not is_swept:
            self.codes.append(code)
            return
        if code != COMPLETE:
            self._failures.append(f"{name} ended with exit code {code}: {overrides}")
        ended = EndedJob(
            num=HydraConfig.get().job.num,
            code=code,
            overrides=[str(word) for word in HydraConfig.get().overrides.task],
            figures=take_figures(),
        )
        if self.remote.is_remote:
            self.remote.tell(ended)
        else:
            self.swept.append(ended)

    def tell_failures(self) -> None:
        """Says at the end of a sweep which of its jobs did not end with 0; hours lie between."""
        for line in self._failures:
            tell(line)
        if self._num_not_begun:
            tell(f"Jobs of the sweep not begun: {self._num_not_begun}")

    def _run(self, config: DictConfig) -> int:
        try:
            use_folders(self._folders)  # a launcher may have brought this job elsewhere
            if list(config.get("include", ())) != [str(folder) for folder in self._folders]:
                raise ConfigError("`include` must be given on the command line: include=DIR.")
            return self._job(config)
        except BAD_INPUT_ERRORS as error:
            report(error)
            return BAD_INPUT
        except (CanaryError, JudgeError, StoreError, WorkerError) as error:
            report(error)
            if config.get("overwrite") and not isinstance(error, CanaryError):  # it stores nothing
                tell(_BEGINS_ANEW)
            return INCOMPLETE
        except BrokenPipeError:
            drop_output()
            return INCOMPLETE
        except OSError as error:
            known = DISK_FULL | FORBIDDEN | NO_PATH
            if not isinstance(error, WriteError) and error.errno not in known:
                raise
            report(error, explain_disk_error(error, config))
            return BAD_INPUT if error.errno in FORBIDDEN | NO_PLACE else INCOMPLETE


def _options(argv: Sequence[str], scratch: str, schema: type) -> list[str]:
    """The command line as Hydra gets it; a sweep's own files go to a scratch folder."""
    options = quote_free_text(argv, schema)
    if is_multirun(argv):
        # In front, because argparse does not accept overrides on both sides of a flag.
        options = [word for word in options if word not in ("-m", "--multirun")]
        return ["--multirun", f"hydra.sweep.dir='{scratch}'", *options]
    # An experiment that is not in `conf` may be a sweep too; only Hydra can find it.
    experiments = [n for n, word in enumerate(options) if word.startswith("experiment=")]
    if experiments:
        options.insert(experiments[0], f"hydra.sweep.dir='{scratch}'")
    return options


def _including(folders: Sequence[Path], options: Sequence[str]) -> list[str]:
    """The command line with the folders that it includes, as Hydra reads a list."""
    if not folders:
        return list(options)
    names = ",".join(quote_literally(str(folder)) for folder in folders)
    # Beside the other overrides, because argparse does not accept them on both sides of a flag.
    overrides = (n for n, word in enumerate(options) if "=" in word and not word.startswith("-"))
    place = next(overrides, len(options))
    return [*options[:place], f"include=[{names}]", *options[place:]]


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _report_unexpected(
    kind: type[BaseException], error: BaseException, _trace: TracebackType | None
) -> None:
    """The excepthook of the programs: a defect is one paragraph too."""
    report(error)
    tell(f"({kind.__name__}: this should not have happened. Set {FULL_ERROR}=1 for the traceback.)")
