"""The typed schema of `runners.publish`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.kinds import name_option, path_option

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(kw_only=True, slots=True)
class PublishConfig(BenchmarksConfig):
    """Options of `runners.publish`.

    Attributes:
        run: The stored run: its name, or its folder.
        tasks: The benchmarks that are published; empty for all that can be.
        data: Where the benchmarks lie; not looked at.
        repo: The model on the hub, as `OWNER/MODEL`; needed for a pull request.
        create_pr: Open a pull request there; else the files are only written.
        output: Where the files go; null for the folder `hub` in the run's.
        results_dir: Where runs are kept.
    """

    run: str = path_option()
    repo: str | None = name_option(None)
    create_pr: bool = False
    output: str | None = path_option(None)
    results_dir: str = path_option("results")

    def __post_init__(self) -> None:
        if self.repo is not None and not _REPO.fullmatch(self.repo):
            raise ValueError(
                f"`repo` must be OWNER/MODEL as on the hub, but is {self.repo!r}, which is none."
            )
        if self.create_pr and self.repo is None:
            raise ValueError("`create_pr` needs the model on the hub: repo=OWNER/MODEL.")
