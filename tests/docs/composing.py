"""Commands of a page composed by their programs, up to where the work would begin."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig

from runners.options.build import read_settings, read_task_specs
from runners.options.program import run
from runners.options.register import SCHEMAS
from runners.options.words import imply_checkpoint, name_folder, nest, spell_out_flags


class Composed:
    """Checks the composed options of a job as the program does, and ends it there."""

    def __init__(self, schema: type[Any]) -> None:
        self._schema = schema
        self.num_jobs = 0

    def __call__(self, config: DictConfig) -> int:
        self.num_jobs += 1
        read_settings(config, self._schema)
        if "data" in config and config.tasks:
            for spec in read_task_specs(config).values():
                spec.build()
        return 0


def compose(program: str, words: list[str]) -> None:
    """Composes a program's options; the option of a launcher is looked at, and nothing launched."""
    if program in ("ask", "eval"):
        words = imply_checkpoint(spell_out_flags(words))
    if program == "bench":
        words = nest(words, "bench")
    if program == "view":
        words = name_folder(words)
    if program == "watch":
        words = [*words, "model.path=out"]  # which `watch` fills in for each checkpoint
    if any("launcher" in word or word == "experiment=slurm-sweep" for word in words):
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
        words = ["--cfg", "hydra", *(word for word in words if word not in ("-m", "--multirun"))]
    composed = Composed(SCHEMAS[program])
    try:
        code: Any = run(program, composed, words)
    except SystemExit as ended:  # Hydra's way to end after `--help`
        code = ended.code
    assert code == 0
    assert composed.num_jobs or {"--help", "--cfg"} & set(words)
