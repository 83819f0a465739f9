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
from runners.options.words import escape_interpolations, is_multirun, spell_out_flags
from runners.signals import Interruption

_OWN_OPTIONS = frozenset({"dir", "poll_s", "quiet_s", "once"})
_CHOSEN_HERE = frozenset({"model", "model.path", "run"})
_BY_HAND = "python -m runners.eval model.path=CHECKPOINT"
_REFUSED = {
    "overwrite": "a checkpoint that is tried again goes on with its answers. To have all given "
    f"anew, use another results_dir=DIR, or for one checkpoint {_BY_HAND} overwrite=true",
    "dry_run": f"a watch evaluates. {_BY_HAND} dry_run=true says what that takes",
    "manifest": "it repeats the run of one checkpoint. Use python -m runners.eval manifest=RUN",
    "runner.shard": "every checkpoint is asked all questions. Use "
    f"{_BY_HAND} runner.shard=K/N for a part of them",
}


def watch(config: DictConfig) -> int:
    """Watches as one composed configuration says and returns the exit code."""
    words = sys.argv[1:]
    if is_multirun(words):
        raise ConfigError("`-m` cannot be used here. Start one watch for each set of options.")
    if given := [word for word in words if _name_of(word) in _CHOSEN_HERE]:
        raise ConfigError(
            f"`{given[0]}` cannot be given: every checkpoint that is found is evaluated, each in a "
            "run of its own. Name the folder with `dir=`, and leave it out."
        )
    if OmegaConf.is_missing(config, "dir"):
        raise ConfigError("`dir` must be given: the folder that the training writes into.")
    # each checkpoint's own is set when it is evaluated
    config.model.path = escape_interpolations(config.dir)
    settings = read_settings(config, WatchConfig)
    for name, reason in _REFUSED.items():  # also where a file of options sets it
        if OmegaConf.select(config, name):
            raise ConfigError(f"`{name}` cannot be given: {reason}.")
    root = Path(settings.dir)
    if not root.is_dir():
        raise ConfigError(
            f"`dir` must be a folder, but {settings.dir!r} is none. Check the path, or make the "
            "folder that the training will write into."
        )
    log = RunLog(quiet=settings.quiet, form=settings.log)
    with log, Interruption() as interruption, interruption.patience("the watch ends"):
        specs = {spec.build().name: spec for spec in read_task_specs(config).values()}
        for spec in specs.values():
            spec.build().samples()  # to see that the questions are there
        passed_on = [word for word in words if _name_of(word) not in _OWN_OPTIONS]
        return Watch(root, settings, specs, passed_on, interruption).run()


def _name_of(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


main = partial(program.main, "watch", watch, spell_out_flags)

if __name__ == "__main__":
    main()
