"""The files in `conf` as they are, before Hydra composes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runners.options.include import conf_folder, included_folders

_FOLDER_FLAGS = ("--config-dir", "-cd")


def read_choice(group: str, name: str, argv: Sequence[str] = ()) -> DictConfig | None:
    """Returns what `<group>/<name>.yaml` holds, nothing in it resolved; None if there is none.

    The command line may name folders beside `conf`, with `include=` or `--config-dir`.
    """
    for folder in _folders(argv):
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            config = OmegaConf.create(path.read_text(encoding="utf-8"))
            return config if isinstance(config, DictConfig) else None
    return None


def read_groups(program: str) -> dict[str, str | None]:
    """Returns the groups that a program takes, with what is chosen where nothing is said."""
    config: Any = OmegaConf.load(conf_folder() / f"{program}.yaml")
    groups = [each for each in config.defaults if not isinstance(each, str)]
    return {
        str(name): choice
        for group in groups
        for name, choice in group.items()
        if not str(name).startswith("override ")
    }


def list_choices(group: str, argv: Sequence[str] = ()) -> dict[str, Path]:
    """Returns the files of a group by name, those of included folders among them."""
    paths = [path for folder in _folders(argv) for path in folder.glob(f"{group}/*.yaml")]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def read_texts(group: str, name: str) -> dict[str, str]:
    """Returns the options in a file of a group as text, empty where they are null or missing."""
    config: Any = read_choice(group, name)
    texts = {str(key): "" if OmegaConf.is_missing(config, key) else config[key] for key in config}
    return {key: "" if value is None else str(value) for key, value in texts.items()}


def read_defaults(path: Path) -> list[str]:
    """Returns what the defaults list of a file names: of a group its name, as in `model: mine`."""
    config: Any = OmegaConf.load(path)
    defaults = config.get("defaults", []) if OmegaConf.is_dict(config) else []
    names = (each if isinstance(each, str) else next(iter(each)) for each in defaults)
    return [str(name) for name in names if name != "_self_"]


def _folders(argv: Sequence[str] = ()) -> Iterator[Path]:
    yield conf_folder()
    yield from included_folders()
    for word, following in pairwise([*argv, ""]):
        flag, _, value = word.partition("=")
        if flag in _FOLDER_FLAGS and (value or following):
            yield Path(value or following)
