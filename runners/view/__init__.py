"""Serves what runs answered while they go on: `python -m runners.view results/`.

The reports of a results folder, for this machine alone, made of the files as they are when a page
is asked for. Nothing is ever written.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from runners.errors import COMPLETE, ConfigError
from runners.logs import RunLog
from runners.options import program
from runners.options.build import read_settings
from runners.options.given import read_task_choice
from runners.options.view import ViewConfig
from runners.options.words import name_folder
from runners.storage.stored import list_runs, read_run
from runners.view.pages import ServedRuns
from runners.view.server import HOST, PageServer


def view(config: DictConfig) -> int:
    """Serves the pages of one composed configuration until it is interrupted."""
    settings = read_settings(config, ViewConfig)
    folder = Path(settings.results_dir)
    with RunLog():
        run = read_run(folder) if folder.is_dir() else None
        if run is not None and run.tasks:  # the folder of a run was named
            folder = folder.resolve().parent
        list_runs(folder)  # says what is wrong with the folder
        runs = ServedRuns(
            folder,
            read_task_choice(config),
            only=run.name if run is not None and run.tasks else None,
            thumbnail_px=settings.thumbnail_px,
        )
        try:
            server = PageServer(settings.port, runs)
        except OSError as error:
            raise ConfigError(
                f"Port {settings.port} of {HOST} cannot be used: {error.strerror}. Choose another "
                "with port=N; port=0 takes any that is free."
            ) from error
        with server:
            print(f"http://{HOST}:{server.server_port}/ shows {settings.results_dir}", flush=True)
            print("Only this machine can reach it. Ctrl-C ends it.", flush=True)
            server.serve_forever()
    return COMPLETE


main = partial(program.main, "view", view, name_folder)
