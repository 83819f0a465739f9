"""The typed schema of the options of the server of pages."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.kinds import option, path_option


@dataclass(kw_only=True, slots=True)
class ViewConfig(BenchmarksConfig):
    """Options of `runners.view`.

    Attributes:
        tasks: The benchmarks that are shown; empty for all of the runs.
        results_dir: Where runs are kept, or the folder of one run.
        port: The port of this machine at which the pages are served; 0 for any that is free.
        thumbnail_px: The longer side of a thumbnail.
    """

    results_dir: str = path_option("results")
    port: int = option(8800, allowed="whole number from 0 to 65535")
    thumbnail_px: int = option(160, allowed="whole number from 16 to 2048")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"`port` must be 0 to 65535, but is {self.port}.")
        if not 16 <= self.thumbnail_px <= 2048:
            raise ValueError(f"`thumbnail_px` must be 16 to 2048, but is {self.thumbnail_px}.")
