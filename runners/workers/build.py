"""From options to workers and engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llava.errors import reason_of
from runners.errors import ConfigError
from runners.options.build import instantiate

if TYPE_CHECKING:
    from runners.workers.interface import Engine, Workers


def build_workers(runner: Mapping[str, Any]) -> Workers:
    """Returns the workers that `runner` describes, not started.

    Raises:
        ConfigError: an option is out of its range, or a package is not installed.
    """
    from hydra.errors import InstantiationException

    options = {key: value for key, value in runner.items() if key != "shard"}
    try:
        workers: Workers = instantiate(options)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ConfigError):
            cause = cause.__cause__
        raise cause or error from error
    return workers


def build_engine(engine: Mapping[str, Any], **parts: Any) -> Engine:
    """Returns the engine that a configuration describes, around a loaded model.

    Args:
        engine: `_target_` plus values.
        parts: Tokenizer, model, image processor and context length.

    Raises:
        ConfigError: there is no such engine, or it has no such option.
    """
    from hydra.errors import InstantiationException

    try:
        built: Engine = instantiate(engine, _partial_=True)(**parts)
    except (InstantiationException, TypeError, ValueError) as error:
        raise ConfigError(
            f"`engine` cannot be built from its options: {reason_of(error)}. Remove or correct "
            "the option that does not belong to it."
        ) from error
    return built
