"""The part of an evaluation in which a model is loaded and asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llava.generation.request import Calibration, EngineReport, GenerationConfig
from runners.environment import command, describe_environment
from runners.evaluation.asking import Asker
from runners.evaluation.canary import check_canary
from runners.evaluation.checkpoint import Subject
from runners.evaluation.progress import Progress
from runners.evaluation.rerun import repeatable_options
from runners.evaluation.task_run import TaskRun
from runners.options.eval import EvalConfig
from runners.signals import Interruption
from runners.workers.interface import Workers
from runners.workers.messages import ModelLoaded, Ready

logger = logging.getLogger(__name__)

PROGRAM = "runners.eval"

Timing = dict[str, Any] | None
"""What `summary.json` says about a session; None for a task that was not asked in it."""


class Session:
    """Loads the model once and has all pending questions of all tasks answered.

    Args:
        settings: The options of the run.
        subject: The checkpoint.
        workers: Started; they load the model here.
        interruption: Where a request to stop is seen.
        since_s: Age of this process when the run began, 0 if the process began with it.
    """

    def __init__(
        self,
        settings: EvalConfig,
        subject: Subject,
        workers: Workers,
        interruption: Interruption,
        since_s: float,
    ) -> None:
        self._settings = settings
        self._subject = subject
        self._workers = workers
        self._interruption = interruption
        self._since_s = since_s

    def answer_all(
        self,
        task_runs: Sequence[TaskRun],
        identity: Mapping[str, Any],
        ready: Ready,
        loaded: ModelLoaded,
    ) -> list[Timing] | None:
        """Has the pending questions answered; returns the tasks' timings, None if interrupted.

        Args:
            task_runs: Open, and checked against the identity.
            identity: What all tasks share of it.
            ready: What the first worker found.
            loaded: What it loaded.

        Raises:
            CanaryError: the model does not see, or computes no numbers.
            WorkerError: no worker is left.
        """
        renderer = self._subject.build_renderer()
        environment = {**self._environment(ready), "load_report": dict(loaded.report)}
        if self._settings.canary == "on":
            check_canary(self._workers, renderer, task_runs)
        known = _known_calibration(task_runs, environment)
        if known is not None:
            self._workers.adopt(known)
        timings: list[Timing] = []
        with _progress(task_runs) as progress, self._interruption.patience():
            asker = Asker(
                self._workers,
                renderer,
                self._subject.checkpoint.num_image_tokens,
                self._interruption,
                progress,
                self._since_s,
            )
            for task_run in task_runs:
                num_asked = len(task_run.pending())
                if not num_asked:
                    timings.append(None)
                    continue
                before, started = self._workers.report(), time.monotonic()
                task_run.begin(identity, environment)
                is_through = asker.ask(task_run, self._generation(task_run))
                task_run.amend({"near_ties": self._near_ties(known)})
                if not is_through:
                    return None
                timings.append(
                    {
                        **_timing(num_asked, time.monotonic() - started),
                        **_engine_figures(before, self._workers.report()),
                        "load_s": round(loaded.load_s, 3),
                        "first_answer_s": _rounded(asker.first_answer_s),
                    }
                )
        return timings

    def load(self, ready: Ready, dtype: str) -> ModelLoaded:
        """Has the workers load the model; returns what the first one loaded.

        Args:
            ready: What the first worker found.
            dtype: float32, float16 or bfloat16.

        Raises:
            ConfigError: the checkpoint cannot be loaded.
            WorkerError: no worker is left.
        """
        order = self._subject.load_order(self._settings, dtype=dtype, engine=self._settings.engine)
        loaded = self._workers.load(order)
        logger.info(
            "model loaded in %.1f s (%s, %s)", loaded.load_s, ready.environment["device"], dtype
        )
        return loaded

    def _environment(self, ready: Ready) -> dict[str, Any]:
        return {
            "command": command(PROGRAM),
            **describe_environment(),
            **ready.environment,
            "num_workers": self._workers.num_alive,
            "attention": self._settings.model.attention,
            "marks_images": self._subject.marks_images,
            "engine": self._settings.engine.to_json(),
            "runner": self._settings.runner.to_json(),
            "options": asdict(repeatable_options(self._settings)),
        }

    def _near_ties(self, known: Calibration | None) -> dict[str, Any]:
        """What decides which answers are computed again, for the manifest."""
        report = self._workers.report()
        return {**asdict(known or report.calibration), "threshold": report.threshold}

    def _generation(self, task_run: TaskRun) -> GenerationConfig:
        return self._settings.generation.to_config(
            max_new_tokens=task_run.max_new_tokens, seed=self._settings.seed
        )


def _known_calibration(
    task_runs: Sequence[TaskRun], environment: Mapping[str, Any]
) -> Calibration | None:
    """What an earlier session of this run measured on the same kind of device and software."""
    for task_run in task_runs:
        before = task_run.stored_environment
        near_ties = before.get("near_ties") or {}
        same = all(
            before.get(name) == environment[name]
            for name in ("device_name", "versions", "attention")
        )
        if same and "num_questions" in near_ties:
            calibration = Calibration(
                num_questions=near_ties["num_questions"],
                largest_change=near_ties["largest_change"],
            )
            if calibration.is_complete:
                return calibration
    return None


def _timing(num_asked: int, wall_s: float) -> dict[str, Any]:
    return {
        "num_asked": num_asked,
        "wall_s": round(wall_s, 3),
        "questions_per_s": round(num_asked / wall_s, 3),
    }


def _engine_figures(before: EngineReport, after: EngineReport) -> dict[str, Any]:
    """What the engines did for one task; the shares are of their working time."""
    waited_s, busy_s = after.waited_s - before.waited_s, after.busy_s - before.busy_s
    total_s = waited_s + busy_s
    return {
        "num_halvings": after.num_halvings - before.num_halvings,
        "waited_share": round(waited_s / total_s, 4) if total_s else None,
        "replay_share": round((after.replay_s - before.replay_s) / total_s, 4) if total_s else None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _progress(task_runs: Sequence[TaskRun]) -> Progress:
    total = sum(len(task_run.samples) for task_run in task_runs)
    return Progress(total, total - sum(len(task_run.pending()) for task_run in task_runs))
