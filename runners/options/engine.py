"""The typed schema of `engine`: which engine answers the questions, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llava.generation.calibration import MAX_EXPECTED_FLIPS
from runners.options.checks import check_at_least, check_choice
from runners.options.component import Component

REPLAYS = ("near_ties", "all", "off")


@dataclass(kw_only=True, slots=True)
class EngineOptions(Component):
    """Any engine; which one, says the subclass."""

    choice: ClassVar[str] = "engine="


@dataclass(kw_only=True, slots=True)
class SequentialOptions(EngineOptions):
    """One request at a time, which has no options."""

    choice: ClassVar[str] = "engine=sequential"
    _target_: str = "llava.generation.sequential.SequentialEngine"


@dataclass(kw_only=True, slots=True)
class PackedOptions(EngineOptions):
    """Each image once, all its questions behind it.

    Attributes:
        max_tokens: Cache slots of a pack; None for what the device's memory allows.
        max_rows: Rows of a pack.
        replay: Which answers are computed again, alone: `near_ties`, `all` or `off`.
        near_tie_threshold: Distance of the two largest logits under which a token counts as nearly
            tied; None for the measured one.
        max_expected_flips: So many answers of a run may be expected to differ from those that the
            model gives alone, at most.
        num_preprocess_threads: Threads that prepare images; None for what suits the device.
    """

    choice: ClassVar[str] = "engine=packed"
    _target_: str = "llava.generation.packed.PackedEngine"
    max_tokens: int | None = None
    max_rows: int = 64
    replay: str = "near_ties"
    near_tie_threshold: float | None = None
    max_expected_flips: float = MAX_EXPECTED_FLIPS
    num_preprocess_threads: int | None = None

    def __post_init__(self) -> None:
        EngineOptions.__post_init__(self)  # slots leave `super()` without its class
        for name in ("max_tokens", "max_rows", "num_preprocess_threads"):
            check_at_least(f"engine.{name}", getattr(self, name), 1)
        check_choice("engine.replay", self.replay, REPLAYS)
        remedy = "Leave it out for the measured one."
        check_at_least("engine.near_tie_threshold", self.near_tie_threshold, 0, remedy)
        check_at_least("engine.max_expected_flips", self.max_expected_flips, 1e-9)


ENGINES = (PackedOptions, SequentialOptions)
