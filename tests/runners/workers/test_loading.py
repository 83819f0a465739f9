"""What a worker loads is what the run began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.environment import source_hash
from runners.errors import ConfigError
from runners.options.engine import SequentialOptions
from runners.workers.loading import load_engine
from runners.workers.messages import LoadModel


def order(checkpoint: Path, source: str | None) -> LoadModel:
    return LoadModel(
        path=str(checkpoint),
        base=None,
        name=checkpoint.name,
        dtype="float32",
        engine=SequentialOptions(),
        source=source,
    )


def test_worker_with_other_code_answers_nothing(tiny_checkpoint: Path) -> None:
    """Code that was edited meanwhile, or another version of it on another machine."""
    for same in (source_hash(), None):
        load_engine(order(tiny_checkpoint, same), ["cpu"])
    with pytest.raises(ConfigError, match="was changed while the run went on"):
        load_engine(order(tiny_checkpoint, "other"), ["cpu"])
