"""What a packed engine has done: counts, and where its time went."""

from __future__ import annotations

from dataclasses import dataclass

from llava.generation.request import Calibration, EngineReport


@dataclass(slots=True)
class PackStats:
    """What the engine has done so far.

    Attributes:
        num_packed: Answers from packs.
        num_replayed: Of these, computed again alone.
        num_flipped: Of these, with another result.
        num_halvings: Packs that did not fit and were halved.
        waited_s: Seconds spent waiting for images.
        encode_s: Seconds in tower and projector.
        decode_s: Seconds in the language model.
        busy_s: Seconds of answering, waiting not counted.
        replay_s: Seconds of computing again.
        calibration_s: Of these, the seconds in which the threshold was being measured.
    """

    num_packed: int = 0
    num_replayed: int = 0
    num_flipped: int = 0
    num_halvings: int = 0
    waited_s: float = 0.0
    encode_s: float = 0.0
    decode_s: float = 0.0
    busy_s: float = 0.0
    replay_s: float = 0.0
    calibration_s: float = 0.0

    def to_report(self, calibration: Calibration, threshold: float | None) -> EngineReport:
        """Returns the record for other processes.

        Args:
            calibration: What the engine itself has measured about near ties.
            threshold: The distance under which a token counts as nearly tied; None if there is
                none (yet).
        """
        return EngineReport(
            calibration=calibration,
            threshold=threshold,
            num_packed=self.num_packed,
            num_replayed=self.num_replayed,
            num_flipped=self.num_flipped,
            num_halvings=self.num_halvings,
            waited_s=self.waited_s,
            busy_s=self.busy_s,
            replay_s=self.replay_s,
            calibration_s=self.calibration_s,
        )
