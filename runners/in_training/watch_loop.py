"""The loop of `runners.watch`: one visit to each checkpoint, again and again."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from evals.errors import DataError
from llava.errors import CheckpointError, ConversationError
from llava.names import get_model_name_from_path
from runners.environment import called
from runners.errors import BAD_INPUT, COMPLETE, INCOMPLETE, ConfigError, WorkerError
from runners.evaluation.checkpoint import inspect_subject
from runners.evaluation.identity import identify_checkpoint
from runners.evaluation.questions import AskedTask
from runners.evaluation.resuming import TaskRun
from runners.in_training.checkpoint_folders import (
    Fingerprint,
    find_checkpoints,
    fingerprint,
    last_change_s,
    what_is_missing,
)
from runners.in_training.wandb_logging import is_sent
from runners.logs import mask_secrets
from runners.options.names import run_name
from runners.options.task_spec import TaskSpec
from runners.options.watch import WatchConfig
from runners.options.words import quote_if_read
from runners.signals import Interruption
from runners.storage.lock import FolderLock
from runners.storage.stored import StoredTask
from runners.workers.interface import build_workers

logger = logging.getLogger(__name__)

_STEP_S = 0.2
_BRIEF_S = 5.0
_FIRST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Retry:
    """When a failed evaluation is tried again although nothing of the checkpoint has changed.

    A remedy may lie anywhere: a network, a disk, the images. Each wait is twice as long as the one
    before, so that a checkpoint that nothing helps does not hold up the others.
    """

    state: Fingerprint
    wait_s: float
    due_s: float

    @classmethod
    def after(cls, state: Fingerprint, last: _Retry | None) -> _Retry:
        again = last is not None and last.state == state
        wait_s = 2 * last.wait_s if last is not None and again else _FIRST_RETRY_S
        return cls(state, wait_s, time.monotonic() + wait_s)


@dataclass(slots=True)
class Watch:
    """Looks for checkpoints again and again, and has each evaluated once.

    Attributes:
        root: The folder that the training writes into.
        specs: The benchmarks by their name.
        words: The options that are passed on, as they were typed.
    """

    root: Path
    settings: WatchConfig
    specs: Mapping[str, TaskSpec]
    words: Sequence[str]
    interruption: Interruption
    _tried: dict[Path, Fingerprint] = field(default_factory=dict, init=False)
    _seen: dict[Path, tuple[Fingerprint, float]] = field(default_factory=dict, init=False)
    _failed: set[Path] = field(default_factory=set, init=False)
    _retry: dict[Path, _Retry] = field(default_factory=dict, init=False)
    _told: dict[Path, str] = field(default_factory=dict, init=False)

    def run(self) -> int:
        """Returns the exit code: 130 or 143 if stopped, and with `once` 0, or 1 if some failed."""
        names = ", ".join(self.specs)
        logger.info("watching %s for checkpoints to evaluate on %s", self.root, names)
        once = find_checkpoints(self.root) if self.settings.once else None
        if once == []:
            logger.warning("there is no checkpoint in %s", self.root)
        while True:
            folders = find_checkpoints(self.root) if once is None else once
            settled = True
            for folder in folders:
                settled &= self._visit(folder)
                if self.interruption.requested:
                    return self.interruption.exit_code
            if once is not None and settled:
                return INCOMPLETE if self._failed else COMPLETE
            self._sleep()
            if self.interruption.requested:
                return self.interruption.exit_code

    def _sleep(self) -> None:
        """Waits for the next look, but no longer than until a signal comes."""
        end = time.monotonic() + self.settings.poll_s
        while not self.interruption.requested and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_S))

    def _visit(self, folder: Path) -> bool:
        """Evaluates a checkpoint if it is time; returns whether that leaves nothing to wait for."""
        base = self.settings.model.base
        try:
            state, changed_s = fingerprint(folder, base), last_change_s(folder, base)
        except OSError as error:  # the training keeps only the last ones
            self._tell(folder, f"it is gone ({error})")
            self._failed.discard(folder)
            return True
        retry = self._retry.get(folder)
        is_due = retry is not None and time.monotonic() >= retry.due_s
        if self._tried.get(folder) == state and not is_due:
            return True
        if not self._is_quiet(folder, state, changed_s):
            return False
        missing = what_is_missing(folder, base)
        if missing:
            told = f"not evaluated, because it is incomplete: {missing}"
            self._tell(folder, told, logging.WARNING)
            self._failed.add(folder)
            return True
        settings = self._settings_of(folder)
        try:
            is_evaluated = self._is_evaluated(settings)
        except ConfigError as error:
            way_out = f"\n{self._way_out(folder)}" if "run=NAME" in str(error) else ""
            logger.error("%s: not evaluated: %s%s", folder, error, way_out)
            self._failed.add(folder)
            self._retry.pop(folder, None)  # it would be refused again
        else:
            if is_evaluated:
                self._succeed(folder, f"evaluated before, as run {settings.run}")
            elif not self._evaluate(folder, state, settings):
                return False
        self._tried[folder] = state
        return True

    def _is_quiet(self, folder: Path, state: Fingerprint, changed_s: float) -> bool:
        """Whether nothing has changed for `quiet_s`; says what it waits for, unless it is brief.

        Where the clock that times are taken from runs ahead of this machine's, what counts is for
        how long the files have looked the same.
        """
        seen, since_s = self._seen.get(folder, (None, 0.0))
        if seen != state:
            since_s = time.monotonic()
            self._seen[folder] = (state, since_s)
        age_s, quiet_s = time.time() - changed_s, self.settings.quiet_s
        if max(age_s, time.monotonic() - since_s) >= quiet_s:
            return True
        if age_s < -_STEP_S:
            self._tell(
                folder,
                "its files have times in the future: the clock of the machine that wrote them is "
                f"ahead of this one's. It is evaluated once it has been seen to be unchanged for "
                f"{quiet_s:g} s",
            )
        elif quiet_s > _BRIEF_S:
            self._tell(folder, f"it is evaluated once it has not changed for {quiet_s:g} s")
        return False

    def _settings_of(self, folder: Path) -> WatchConfig:
        """The options of one checkpoint's evaluation, with the name of its run."""
        model = replace(self.settings.model, path=str(folder))
        settings = replace(self.settings, model=model)
        named = replace(model, name=checkpoint_name(self.root, folder))
        return replace(settings, run=run_name(replace(settings, model=named)))

    def _is_evaluated(self, settings: WatchConfig) -> bool:
        """Whether an evaluation would ask nothing, come to the stored figures and send none.

        Raises:
            ConfigError: it would be refused, because other answers are stored under its name.
        """
        run_dir = Path(settings.results_dir) / str(settings.run)
        if not any(StoredTask(run_dir / name).manifest_path.exists() for name in self.specs):
            return False
        try:
            subject = inspect_subject(settings)
            model = identify_checkpoint(subject, settings, partial(_hash_weights, settings))
            tasks = [
                # built anew, because the data may have changed since the last look
                TaskRun(AskedTask(spec.with_options({}).build(), settings, spec), run_dir)
                for spec in self.specs.values()
            ]
        except (CheckpointError, ConversationError, ConfigError, DataError, WorkerError):
            return False  # the evaluation says what is wrong
        try:
            for task in tasks:
                task.check(model, self._way_out_of_others(settings))
            if not all(task.is_done(settings.max_failures) for task in tasks):
                return False
        except DataError:
            return False
        return settings.wandb is None or is_sent(run_dir, settings.wandb)

    def _evaluate(self, folder: Path, state: Fingerprint, settings: WatchConfig) -> bool:
        """Evaluates a checkpoint; returns False where another process is at it, or at a stop."""
        name = str(settings.run)
        if self._is_busy(name):
            self._tell(folder, f"another process is writing its run {name}")
            return False
        logger.info("%s: evaluating as run %s", folder, name)
        options = [*self._options(folder), f"run={quote_if_read(name)}"]
        code = self.interruption.run([sys.executable, "-m", "llava_evals", "eval", *options])
        if self.interruption.requested:
            return False
        if code == BAD_INPUT and self._is_busy(name):
            return False
        if code == COMPLETE:
            self._succeed(folder, f"evaluated as run {name}")
            return True
        self._failed.add(folder)
        self._retry[folder] = retry = _Retry.after(state, self._retry.get(folder))
        again = (
            f"in {retry.wait_s:,.0f} s, or when the checkpoint, its vision tower or base changes"
        )
        logger.error(
            "%s: the evaluation %s%s%s",
            folder,
            f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}",
            "" if self.settings.once else f"; it is tried again {again}",
            f". {self._way_out(folder)}" if code == BAD_INPUT else "",
        )
        return True

    def _options(self, folder: Path) -> list[str]:
        """The options of a checkpoint's evaluation, without the name of its run."""
        return [*self.words, "model=checkpoint", f"model.path={quote_if_read(str(folder))}"]

    def _way_out(self, folder: Path) -> str:
        """What can be done where a message offers options that a watch does not take."""
        return (
            "A watch takes no run= and no overwrite=: where these are the remedy, start it with "
            f"another results_dir=DIR, or give them by hand to: {self._by_hand(folder)}"
        )

    def _way_out_of_others(self, settings: WatchConfig) -> str:
        """What can be done where the results of other weights or options have a run's name."""
        run = f"run={quote_if_read(str(settings.run))}"
        by_hand = self._by_hand(Path(settings.model.path), run, "overwrite=true")
        told = "keep these results elsewhere with results_dir=DIR, or set the stored ones aside"
        return f"{told}: {by_hand}"

    def _by_hand(self, folder: Path, *words: str) -> str:
        """The command of a checkpoint's evaluation."""
        command = shlex.join([*called("runners.eval"), *self._options(folder), *words])
        return mask_secrets(command)

    def _succeed(self, folder: Path, what: str) -> None:
        self._failed.discard(folder)
        self._retry.pop(folder, None)
        self._tell(folder, what)

    def _is_busy(self, name: str) -> bool:
        """Whether a process writes the run, such as one that outlived an earlier watch."""
        run_dir = Path(self.settings.results_dir) / name
        return any(FolderLock(run_dir / task).is_taken() for task in self.specs)

    def _tell(self, folder: Path, what: str, level: int = logging.INFO) -> None:
        """Says something about a checkpoint unless it was the last thing that was said of it."""
        if self._told.get(folder) != what:
            self._told[folder] = what
            logger.log(level, "%s: %s", folder, what)


def checkpoint_name(root: Path, folder: Path) -> str:
    """Returns a name for a checkpoint that no other one below `root` has.

    >>> checkpoint_name(Path("runs/llava-mine"), Path("runs/llava-mine/checkpoint-500"))
    'llava-mine_checkpoint-500'
    >>> checkpoint_name(Path("runs"), Path("runs/a/lora/checkpoint-500"))
    'a_lora_checkpoint-500'
    """
    parts = folder.relative_to(root).parts
    if len(parts) > 1:
        return "_".join(parts)
    return get_model_name_from_path(str(folder.resolve()))


def _hash_weights(settings: WatchConfig, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
    """The hashes of weights that were not read on this machine before."""
    read = ", ".join(str(path.parent) for path in {paths[0] for paths in files.values()})
    logger.info("%s: reading the weights, to see whether the stored answers are theirs", read)
    workers = build_workers(settings.runner)
    try:
        workers.start(settings.device)
        return workers.hash_weights(files)
    finally:
        workers.close()
