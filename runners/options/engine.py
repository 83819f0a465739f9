"""The typed schema of `engine`: which engine answers the questions, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llava.generation.calibration import MAX_EXPECTED_FLIPS
from runners.options.checks import check_fields
from runners.options.component import Component
from runners.options.kinds import option

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
        max_tokens: Cache slots of a pack; null for what the device's memory allows.
        max_rows: Rows of a pack.
        replay: Which answers are computed again, alone: `near_ties`, `all` or `off`.
        near_tie_threshold: Distance of the two largest logits under which a token counts as nearly
            tied; null for the measured one.
        max_expected_flips: So many answers of a run may be expected to differ from those that the
            model gives alone, at most.
        num_preprocess_threads: Threads that prepare images; null for what suits the device.
    """

    choice: ClassVar[str] = "engine=packed"
    _target_: str = "llava.generation.packed.PackedEngine"
    max_tokens: int | None = option(None, least=1)
    max_rows: int = option(64, least=1)
    replay: str = option("near_ties", choices=REPLAYS)
    near_tie_threshold: float | None = option(
        None, least=0, remedy="Leave it out for the measured one."
    )
    max_expected_flips: float = option(MAX_EXPECTED_FLIPS, least=1e-9, allowed="number above 0")
    num_preprocess_threads: int | None = option(None, least=1)

    def __post_init__(self) -> None:
        EngineOptions.__post_init__(self)  # slots leave `super()` without its class
        check_fields(self, "engine.")


ENGINES = (PackedOptions, SequentialOptions)
