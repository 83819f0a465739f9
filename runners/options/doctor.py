"""The typed schema of `runners.doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.checks import check_fields
from runners.options.kinds import option, path_option

IMAGE_CHECKS = ("stat", "open")


@dataclass(kw_only=True, slots=True)
class DoctorConfig(BenchmarksConfig):
    """Options of `runners.doctor`.

    Attributes:
        tasks: The benchmarks whose data are looked at.
        results_dir: Where runs are kept; its free disk is told.
        check_counts: Whether another number of questions or images than the published is wrong.
        check_images: `stat` looks for each image, `open` decodes it too.
    """

    results_dir: str = path_option("results")
    check_counts: bool = True
    check_images: str = option("stat", choices=IMAGE_CHECKS)

    def __post_init__(self) -> None:
        check_fields(self)
