"""The typed schema of the report page's options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.checks import check_fields
from runners.options.kinds import Kind, of_kind, option, path_option

MAX_RUNS = 26
"""Each has a letter on the page."""
ALL_RUNS = "all"
_FULL_IMAGES = ("disk", "page")


@dataclass(kw_only=True, slots=True)
class ReportConfig(BenchmarksConfig):
    """Options of `runners.report`.

    Attributes:
        runs: One run or several, each by its name in `results_dir` or by its folder; the others are
            compared with the first. `all` writes a page for each run in `results_dir`.
        tasks: The benchmarks that are shown; empty for all of the runs.
        results_dir: Where runs are kept.
        output: The page that is written; null for `report.html` in the run's folder, with several
            runs `report-OTHERS.html` in that of the first.
        max_thumbnails: How many images are shown at most.
        thumbnail_px: The longer side of a thumbnail.
        max_mb: Above this size of the page, thumbnails go to a folder beside it.
        full_images: Where images in full come from: `disk` for their own files, where they have
            any, `page` for the page itself.
        full_mb: At most so many millions of bytes of images in full are put into the page, those
            of questions that differ or are wrong first.
    """

    runs: Any = field(default=MISSING, metadata=of_kind(Kind.NAMES))
    results_dir: str = path_option("results")
    output: str | None = path_option(None)
    max_thumbnails: int = option(2000, least=0)
    thumbnail_px: int = option(160, allowed="whole number from 16 to 2048")
    max_mb: float = option(50.0, least=0)
    full_images: str = option("disk", choices=_FULL_IMAGES)
    full_mb: float = option(20.0, least=0)

    def __post_init__(self) -> None:
        if isinstance(self.runs, str):
            self.runs = [self.runs]
        names = self.runs if isinstance(self.runs, list) else []
        if not 1 <= len(names) <= MAX_RUNS or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"`runs` must be one to {MAX_RUNS} runs, such as runs=[A,B], but is {self.runs!r}."
            )
        if len(set(names)) < len(names):
            raise ValueError(f"`runs` must be different runs, but is {names!r}.")
        if self.takes_all and self.output is not None:
            raise ValueError("`output` names one page, but runs=all writes one for each run.")
        check_fields(self)
        if not 16 <= self.thumbnail_px <= 2048:
            raise ValueError(f"`thumbnail_px` must be 16 to 2048, but is {self.thumbnail_px}.")
        if self.output is not None and not self.output.endswith(".html"):
            raise ValueError(f"`output` must end in .html, but is {self.output!r}.")

    @property
    def takes_all(self) -> bool:
        """Whether each run in `results_dir` gets a page of its own."""
        return list(self.runs) == [ALL_RUNS]
