"""How answers came about: where, with which options, in what time. Nothing of it changes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from llava.generation.calibration import Calibration
from llava.generation.request import EngineReport
from runners.storage.typed import read_record
from runners.workers.messages import Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where and how a run takes place.

    Attributes:
        command: What was typed; None inside another program.
        machine: Versions, machine and source state, see `describe_environment`.
        num_workers: Processes that hold it.
        attention: Its implementation as the model takes it, and the kernels that are open to it;
            None if that is not known.
        marks_images: Whether prompts have images between start and end tokens.
        engine: The engine, as `_target_` plus values.
    """

    command: str | None = None
    machine: Mapping[str, object]
    hardware: Hardware
    num_workers: int
    attention: str | None
    marks_images: bool
    engine: Mapping[str, object]
    details: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Returns what a manifest holds of it."""
        return {
            **({} if self.command is None else {"command": self.command}),
            **self.machine,
            **asdict(self.hardware),
            "num_workers": self.num_workers,
            "attention": self.attention,
            "marks_images": self.marks_images,
            "engine": self.engine,
            **self.details,
        }

    def measured_before(self, stored: Mapping[str, object]) -> Calibration | None:
        """Returns what decides near ties here, if a stored environment says it.

        That must have been measured on the same kind of device and software.
        """
        here, near_ties = self.to_json(), stored.get("near_ties")
        names = ("device_name", "versions", "attention")
        measured = {each.name for each in fields(Calibration)}
        if not isinstance(near_ties, Mapping) or not measured <= near_ties.keys():
            return None
        if any(stored.get(name) != here[name] for name in names):
            return None
        try:
            known = read_record(Calibration, near_ties, "near_ties")
            return Calibration().merged(known)  # in order, whoever wrote it
        except ValueError:  # another version's, or somebody else's
            return None


def near_tie_rule(report: EngineReport) -> dict[str, object]:
    """Returns what decided which answers were computed again, as a manifest holds it."""
    return {**asdict(report.calibration), "threshold": report.threshold}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long it took to ask some questions.

    Attributes:
        num_asked: How many.
        wall_s: Seconds from the first to the last.
    """

    num_asked: int
    wall_s: float

    def to_json(self) -> dict[str, object]:
        """Returns what `summary.json` holds of it."""
        return {
            "num_asked": self.num_asked,
            "wall_s": round(self.wall_s, 3),
            "questions_per_s": round(self.num_asked / self.wall_s, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTiming(Timing):
    """The same for a task of a run, with what workers and engines did.

    Attributes:
        before: What the engines had done before.
        after: What they had done afterwards.
        load_s: Seconds in which the model was loaded.
        first_answer_s: Seconds from the beginning of the run to its first answer; None without any.
    """

    before: EngineReport
    after: EngineReport
    load_s: float
    first_answer_s: float | None

    def to_json(self) -> dict[str, object]:
        """Returns what `summary.json` holds of it; shares are of the engines' working time."""
        waited_s = self.after.waited_s - self.before.waited_s
        replay_s = self.after.replay_s - self.before.replay_s
        total_s = waited_s + self.after.busy_s - self.before.busy_s
        stages = {
            name: getattr(self.after, name).seconds - getattr(self.before, name).seconds
            for name in ("encode", "prefix", "suffix", "decode")
        }
        first_s = self.first_answer_s
        return {
            **Timing.to_json(self),
            "num_halvings": self.after.num_halvings - self.before.num_halvings,
            "waited_share": round(waited_s / total_s, 4) if total_s else None,
            "replay_share": round(replay_s / total_s, 4) if total_s else None,
            **{
                f"{name}_share": round(seconds / total_s, 4) if total_s else None
                for name, seconds in stages.items()
            },
            "load_s": round(self.load_s, 3),
            "first_answer_s": None if first_s is None else round(first_s, 3),
        }
