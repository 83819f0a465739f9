"""The files in `conf` as they are, before Hydra composes them."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

_FOLDER_FLAGS = ("--config-dir", "-cd")


def read_choice(group: str, name: str, argv: Sequence[str] = ()) -> DictConfig | None:
    """Returns what `<group>/<name>.yaml` holds, nothing in it resolved; None if there is none.

    The command line may name a folder beside `conf` with `--config-dir`.
    """
    for folder in (importlib.resources.files("conf"), *_own_folders(argv)):
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            config = OmegaConf.create(path.read_text(encoding="utf-8"))
            return config if isinstance(config, DictConfig) else None
    return None


def _own_folders(argv: Sequence[str]) -> Iterator[Path]:
    for word, following in pairwise([*argv, ""]):
        flag, _, value = word.partition("=")
        if flag in _FOLDER_FLAGS and (value or following):
            yield Path(value or following)
