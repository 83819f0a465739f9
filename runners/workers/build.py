"""From options to workers and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llava.errors import reason_of
from runners.errors import ConfigError
from runners.options.engine import EngineOptions
from runners.options.runner import RunnerOptions
from runners.options.targets import locate

if TYPE_CHECKING:
    from runners.workers.interface import Engine, Workers


def build_workers(runner: RunnerOptions) -> Workers:
    """Returns the workers that the options describe, not started.

    Raises:
        ConfigError: a package that they need is not installed.
    """
    options = runner.to_json()
    del options["shard"]  # decides which questions there are, not who answers them
    workers: Workers = locate(str(options.pop("_target_")))(**options)
    return workers


def build_engine(engine: EngineOptions, **parts: Any) -> Engine:
    """Returns the engine that the options describe, around a loaded model.

    Args:
        engine: The options.
        parts: Tokenizer, model, image processor and context length.

    Raises:
        ConfigError: the options do not go with the model.
    """
    options = engine.to_json()
    build = locate(str(options.pop("_target_")))
    try:
        built: Engine = build(**parts, **options)
    except ValueError as error:
        raise ConfigError(f"`engine` cannot be built: {reason_of(error)}.") from error
    return built
