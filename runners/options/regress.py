"""The typed schema of `runners.regress`."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.checks import check_fields
from runners.options.kinds import option, path_option


@dataclass(kw_only=True, slots=True)
class RegressConfig(BenchmarksConfig):
    """Options of `runners.regress`.

    Attributes:
        baseline: The run that is held against: its name, its folder, or a model of the zoo.
        candidate: The run that is judged, likewise.
        tasks: The benchmarks that are compared; empty for all that both runs have.
        data: Where the benchmarks lie; not looked at.
        alpha: The chance of a false alarm over all benchmarks together.
        max_drop: The drop that is tolerated, as a fraction (0.01 is one point); null fails any
            significant drop, and passes what is surely no larger than 0.03.
        output: Where the verdict goes; null for a folder in the candidate's.
        seed: Of the permutation test.
        results_dir: Where runs are kept.
        allow_same: Let a run be held against itself, which always passes.
    """

    baseline: str = path_option()
    candidate: str = path_option()
    alpha: float = option(0.05, allowed="number above 0 and below 0.5")
    max_drop: float | None = option(None, allowed="number from 0 and below 1, or null")
    output: str | None = path_option(None)
    seed: int = option(0, least=0)
    results_dir: str = path_option("results")
    allow_same: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"`alpha` must be larger than 0 and below 0.5, but is {self.alpha}.")
        if self.max_drop is not None and not 0 <= self.max_drop < 1:
            raise ValueError(
                f"`max_drop` must be at least 0 and below 1, but is {self.max_drop}. It is a "
                "fraction: 0.01 is one point."
            )
        check_fields(self)
