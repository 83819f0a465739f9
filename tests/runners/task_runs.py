"""Task runs without a model, as the program opens them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evals.records import Sample
from runners.evaluation.identity import ModelIdentity, engine_identity
from runners.evaluation.provenance import Environment
from runners.evaluation.questions import AskedTask
from runners.evaluation.resuming import TaskRun
from runners.options.engine import PackedOptions
from runners.options.eval import EvalConfig
from runners.options.model import ModelConfig
from runners.options.task_spec import TaskSpec
from runners.storage.asked import estimate_tokens, group_by_images
from runners.workers.messages import Hardware

IDENTITY = ModelIdentity(
    name="m",
    files={},
    conversation="vicuna_v1",
    dtype="float32",
    engine=engine_identity(PackedOptions()),
)
ENVIRONMENT = Environment(
    machine={"host": "h"},
    hardware=Hardware(device="cpu", device_name="cpu", cuda=None, num_threads=1),
    num_workers=1,
    attention=None,
    marks_images=False,
    engine={},
)


def build_task_run(spec: Mapping[str, Any] | TaskSpec, run_dir: Path, **options: Any) -> TaskRun:
    """The task of a run with these options of `runners.eval`, checked as far as its images go."""
    spec = spec if isinstance(spec, TaskSpec) else TaskSpec.from_json(spec)
    settings = EvalConfig(**({"model": ModelConfig(path="/models/m")} | options))
    task_run = TaskRun(
        AskedTask(spec.build(), settings, spec),
        run_dir,
        overwrite=settings.overwrite,
        retry_failed=settings.retry_failed,
    )
    task_run.require_images()
    return task_run


def estimate_piece(samples: Iterable[Sample], num_image_tokens: int) -> int:
    """Returns about how many tokens some questions cost if each image is read once."""
    return sum(estimate_tokens(group, num_image_tokens) for group in group_by_images(samples))
