"""The typed schema of `runners.eval`."""

from __future__ import annotations

from dataclasses import dataclass, field

from runners.logs import FORMS, PLAIN
from runners.options.benchmark_options import BenchmarksConfig
from runners.options.engine import EngineOptions
from runners.options.kinds import name_option, option, path_option
from runners.options.model import GenerationOptions, SubjectConfig
from runners.options.runner import RunnerOptions


@dataclass(kw_only=True, slots=True)
class EvalConfig(BenchmarksConfig, SubjectConfig):
    """Options of `runners.eval`.

    Attributes:
        generation: How answers are generated.
        engine: Which generation engine.
        runner: Which workers.
        results_dir: Where runs are kept.
        run: The run's name; null builds it from the options that matter.
        limit: Only the first questions of each task.
        overwrite: Set a run that is there aside and start anew.
        retry_failed: Ask questions again that failed before.
        max_failures: How many failed questions of a task still count as complete.
        check_counts: Stop when a published split has another number of questions.
        dry_run: Say what the run would take, and load nothing.
        canary: `on` asks a few questions with and without their image before a run, `off` not.
        manifest: A stored run's folder or a task's `manifest.json` in it; the run is repeated and
            its answers are compared.
        quiet: Print the table and what goes wrong, and nothing else.
        log: Lines on stderr as they are, with a bar in a terminal, or as JSON objects.
        wandb: The W&B project, or `ENTITY/PROJECT`, that gets the figures.
    """

    generation: GenerationOptions = field(default_factory=GenerationOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    runner: RunnerOptions = field(default_factory=RunnerOptions)
    results_dir: str = path_option("results")
    run: str | None = name_option(None)
    limit: int | None = option(None, least=1, remedy="Leave it out for all.")
    overwrite: bool = False
    retry_failed: bool = True
    max_failures: int = option(0, least=0)
    check_counts: bool = True
    dry_run: bool = False
    canary: str = option("on", choices=("on", "off"))
    manifest: str | None = path_option(None)
    quiet: bool = False
    log: str = option(PLAIN, choices=FORMS)
    wandb: str | None = name_option(None)

    def __post_init__(self) -> None:
        # YAML reads on and off as truth values
        self.canary = {"True": "on", "False": "off"}.get(str(self.canary), self.canary)
        SubjectConfig.__post_init__(self)  # slots leave `super()` without its class
