"""The typed schema of `runners.watch`."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.checks import check_positive
from runners.options.eval import EvalConfig
from runners.options.kinds import option, path_option


@dataclass(kw_only=True, slots=True)
class WatchConfig(EvalConfig):
    """Options of `runners.watch`, beside those of `runners.eval`.

    Attributes:
        dir: The folder that a training run writes its checkpoints into.
        poll_s: How often it is looked at.
        quiet_s: How long a checkpoint's files must not have changed.
        once: Evaluate what is there, and end.
    """

    dir: str = path_option()
    poll_s: float = option(30.0, allowed="number above 0")
    quiet_s: float = option(60.0, least=0)
    once: bool = False

    def __post_init__(self) -> None:
        EvalConfig.__post_init__(self)
        check_positive("poll_s", self.poll_s)
