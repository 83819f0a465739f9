"""Engines of the tests as choices of `engine`; their classes are only imported by the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hydra.core.config_store import ConfigStore

from runners.options.engine import PackedOptions


@dataclass(kw_only=True, slots=True)
class FaultyOptions(PackedOptions):
    """Options of `FaultyEngine`, which says what they are."""

    choice: ClassVar[str] = "engine=faulty"
    _target_: str = "tests.faults.faulty_engine.FaultyEngine"
    fault: str = "none"
    keys: str = ""
    once: str | None = None
    slow_worker: str | None = None
    slowness: float = 1.0
    log: str | None = None
    probes: bool = False


@dataclass(kw_only=True, slots=True)
class RaisingOptions(FaultyOptions):
    """Options of `RaisingEngine`, which says what they are."""

    choice: ClassVar[str] = "engine=raising"
    _target_: str = "tests.runners.workers.test_ray.RaisingEngine"
    swap: str = ""
    probed: str = ""


@dataclass(kw_only=True, slots=True)
class HeldOptions(PackedOptions):
    """Options of `HeldEngine`, which says what they are."""

    choice: ClassVar[str] = "engine=held"
    _target_: str = "tests.faults.held_engine.HeldEngine"
    num_before: int = 0
    go: str = ""


def register_engines() -> None:
    """Makes the engines known to Hydra in this process."""
    for kind in (FaultyOptions, RaisingOptions, HeldOptions):
        ConfigStore.instance().store(
            group="engine", name=kind.choice.removeprefix("engine="), node=kind
        )


def held(go: Path, num_before: int) -> str:
    """The options of a run with `HeldEngine`."""
    return f"engine=held engine.num_before={num_before} engine.go={go}"
