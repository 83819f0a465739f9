"""Writes a page that shows what runs answered: `python -m runners.report runs=[A,B]`.

One HTML file, which opens from disk and asks no network: scores with intervals, failures by cause,
and every question with its image, prompt, targets and answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from evals.errors import DataError
from runners.errors import BAD_INPUT, COMPLETE, ConfigError
from runners.logs import RunLog, doing
from runners.options import program
from runners.options.build import read_settings
from runners.options.given import TaskChoice, read_task_choice
from runners.options.report import ReportConfig
from runners.storage.stored import StoredRun, find_run, list_runs
from runners.views.report.gathering import gather
from runners.views.report.index import write_index
from runners.views.report.page import REPORT_NAME, check_output, write_page
from runners.views.report.payload import build_payload, number_pictures
from runners.views.report.shown_task import DataReader
from runners.views.report.thumbnails import choose_images, link_in_full, make_thumbnails

logger = logging.getLogger(__name__)

_LONGEST_NAME = 200
"""Of a page: file systems take names of up to 255 bytes."""


def report(config: DictConfig) -> int:
    """Writes the pages of one composed configuration and returns the exit code."""
    settings = read_settings(config, ReportConfig)
    results_dir = Path(settings.results_dir)
    with RunLog():
        choice, code = read_task_choice(config), COMPLETE
        if settings.takes_all:
            code = _report_all(choice, list_runs(results_dir), settings)
        else:
            runs = [find_run(name, results_dir, "runs") for name in settings.runs]
            output = Path(settings.output or runs[0].folder / _page_name(runs))
            _report(choice, runs, output, settings, DataReader())
        if results_dir.is_dir() and (index := write_index(results_dir)) is not None:
            print(f"{index}: all reports in {results_dir}")
    return code


def _report_all(choice: TaskChoice, runs: Sequence[StoredRun], settings: ReportConfig) -> int:
    """Writes a page for each run; one that cannot be read does not keep the others back."""
    code, read = COMPLETE, DataReader()
    for run in runs:
        try:
            _report(choice, [run], run.folder / REPORT_NAME, settings, read)
        except (ConfigError, DataError) as error:
            logger.error("%s: %s", run.name, error)
            code = BAD_INPUT
    return code


def _report(
    choice: TaskChoice,
    runs: Sequence[StoredRun],
    output: Path,
    settings: ReportConfig,
    read: DataReader,
) -> None:
    check_output(output)  # before data are read, which may take minutes
    with doing(f"reading answers and questions of {runs[0].name}"):
        gathered = gather(choice, runs, read)
    for task in gathered.tasks:
        for note in task.notes:
            logger.warning("%s: %s", task.name, note)
    images = choose_images(gathered.tasks, settings.max_thumbnails)
    with doing("making thumbnails"):
        thumbnails, numbers = make_thumbnails(images, settings.thumbnail_px)
    addresses = link_in_full(
        choose_images(gathered.tasks),
        output.parent,
        embeds_all=settings.full_images == "page",
        max_mb=settings.full_mb,
    )
    originals = list(dict.fromkeys(addresses.values()))
    with doing("writing the page"):
        payload = build_payload(gathered, number_pictures(numbers, addresses))
        image_dir = write_page(output, payload, thumbnails, originals, max_mb=settings.max_mb)
    num_rows = sum(len(task.rows) for task in gathered.tasks)
    where = "" if image_dir is None else f" in {image_dir}"
    print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {num_rows:,} questions, "
        f"{len(thumbnails):,} images{where}"
    )


def _page_name(runs: Sequence[StoredRun]) -> str:
    """What a page is called in the first run's folder: it names the others."""
    others = "".join(f"-{run.name}" for run in runs[1:])
    if len(others.encode()) > _LONGEST_NAME:
        others = f"-{runs[1].name[: _LONGEST_NAME // 4]}-and-{len(runs) - 2}-more"
    return f"report{others}.html"


main = partial(program.main, "report", report)

if __name__ == "__main__":
    main()
