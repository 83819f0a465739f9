"""The typed schema of `runners.leaderboard`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runners.options.checks import check_fields
from runners.options.kinds import Kind, of_kind, option, path_option

FORMATS = ("csv", "md", "tex", "html", "png")
PUBLISHED = ("auto", "all", "none")
_BEST = ("bold", "none")


@dataclass(kw_only=True, slots=True)
class LeaderboardConfig:
    """Options of `runners.leaderboard`.

    Attributes:
        results_dir: Where runs are kept.
        output: Where the files go; null for `results_dir`.
        models: Names of runs, with `*` and `?`; empty for all.
        tasks: Names of benchmarks; empty for all.
        published: Which published rows stand beside the runs: `auto` for LLaVA-1.5 and every model
            that was run, each by the first table that has it, `all`, `none`, or names with `*` and
            `?`.
        published_dir: The tables of published figures; null takes those in `results_dir`, or else
            those that come with the project.
        sort: The benchmark by which rows are sorted, best first, or `name`; null puts every run
            beside the published row of its model.
        best: `bold` marks the best figure of a column, `none` marks nothing.
        formats: Which files are written.
        include: Folders with benchmarks of your own.
    """

    results_dir: str = path_option("results")
    output: str | None = path_option(None)
    models: Any = field(default_factory=list, metadata=of_kind(Kind.NAMES))
    tasks: Any = option(list, allowed="name or [names]")
    published: Any = option("auto", allowed="auto, all, none, or [names]")
    published_dir: str | None = path_option(None)
    sort: str | None = option(None, allowed="benchmark, name, or null")
    best: str = option("bold", choices=_BEST)
    formats: Any = option(lambda: list(FORMATS), allowed=f"some of [{','.join(FORMATS)}]")
    include: list[str] = field(default_factory=list, metadata=of_kind(Kind.PATHS))

    def __post_init__(self) -> None:
        for name in ("models", "tasks", "published", "formats"):
            setattr(self, name, _names(name, getattr(self, name)))
        check_fields(self)
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown or not self.formats:
            raise ValueError(
                f"`formats` must be some of {', '.join(FORMATS)}, but is {self.formats}."
            )


def _names(option: str, value: Any) -> list[str]:
    """A list of names; one name alone is one."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise ValueError(f"`{option}` must be a name or a list of names, but is {value!r}.")
    return [str(name) for name in names]
