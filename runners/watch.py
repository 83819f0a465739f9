"""Evaluates checkpoints as a training run writes them: `python -m runners.watch dir=... task=...`.

A folder counts once it is complete and nothing in it has changed for a while. Each checkpoint is
evaluated by a `runners.eval` of its own, with the options given here; what has been evaluated is
known from the results, so that the same command goes on after any interruption.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from runners.errors import ConfigError
from runners.in_training.watch_loop import Watch
from runners.logs import RunLog
from runners.options import program
from runners.options.build import read_settings, read_task_specs
from runners.options.watch import WatchConfig
from runners.options.words import escape_interpolations, is_multirun
from runners.signals import Interruption

_OWN_OPTIONS = frozenset({"dir", "poll_s", "quiet_s", "once"})
_CHOSEN_HERE = frozenset({"model", "model.path", "run", "runner.shard"})


def watch(config: DictConfig) -> int:
    """Watches as one composed configuration says and returns the exit code."""
    words = sys.argv[1:]
    if is_multirun(words):
        raise ConfigError("`-m` cannot be used here. Start one watch for each set of options.")
    given = [word for word in words if _name_of(word) in _CHOSEN_HERE]
    if given:
        raise ConfigError(
            f"`{given[0]}` cannot be given: every checkpoint that is found is evaluated, each in a "
            "run of its own. Name the folder with `dir=`, and leave it out."
        )
    if OmegaConf.is_missing(config, "dir"):
        raise ConfigError("`dir` must be given: the folder that the training writes into.")
    # each checkpoint's own is set when it is evaluated
    config.model.path = escape_interpolations(config.dir)
    settings = read_settings(config, WatchConfig)
    root = Path(settings.dir)
    if not root.is_dir():
        raise ConfigError(
            f"`dir` must be a folder, but {settings.dir!r} is none. Check the path, or make the "
            "folder that the training will write into."
        )
    with RunLog(), Interruption() as interruption, interruption.patience("the watch ends"):
        tasks = [spec.build() for spec in read_task_specs(config).values()]
        for task in tasks:
            task.samples()  # to see that the questions are there
        names = [task.name for task in tasks]
        passed_on = [word for word in words if _name_of(word) not in _OWN_OPTIONS]
        return Watch(root, settings, names, passed_on, interruption).run()


def _name_of(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


main = partial(program.main, "watch", watch)

if __name__ == "__main__":
    main()
