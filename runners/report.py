"""Writes a page that shows what runs answered: `python -m runners.report runs=[A,B]`.

One HTML file, which opens from disk and asks no network: scores with intervals, failures by cause,
and every question with its image, prompt, targets and answers.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from runners.errors import COMPLETE
from runners.logs import RunLog, doing
from runners.options import program
from runners.options.build import read_settings
from runners.options.given import read_task_choice
from runners.options.report import ReportConfig
from runners.storage.stored import find_run
from runners.views.report.gathering import gather
from runners.views.report.page import check_output, write_page
from runners.views.report.payload import build_payload
from runners.views.report.thumbnails import choose_images, make_thumbnails

logger = logging.getLogger(__name__)


def report(config: DictConfig) -> int:
    """Writes the page of one composed configuration and returns the exit code."""
    settings = read_settings(config, ReportConfig)
    with RunLog():
        runs = [find_run(name, Path(settings.results_dir), "runs") for name in settings.runs]
        others = "".join(f"-{run.name}" for run in runs[1:])
        output = Path(settings.output or runs[0].folder / f"report{others}.html")
        check_output(output)  # before data are read, which may take minutes
        with doing("reading answers and questions"):
            gathered = gather(read_task_choice(config), runs)
        for task in gathered.tasks:
            for note in task.notes:
                logger.warning("%s: %s", task.name, note)
        images = choose_images(gathered.tasks, settings.max_thumbnails)
        with doing("making thumbnails"):
            thumbnails, numbers = make_thumbnails(images, settings.thumbnail_px)
        with doing("writing the page"):
            payload = build_payload(gathered, numbers)
            image_dir = write_page(output, payload, thumbnails, max_mb=settings.max_mb)
        num_rows = sum(len(task.rows) for task in gathered.tasks)
        where = "" if image_dir is None else f" in {image_dir}"
        print(
            f"{output}: {output.stat().st_size / 1e6:.1f} MB, {num_rows:,} questions, "
            f"{len(thumbnails):,} images{where}"
        )
    return COMPLETE


main = partial(program.main, "report", report)

if __name__ == "__main__":
    main()
