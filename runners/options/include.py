"""Folders of the user's own: models, templates and benchmarks outside of the package.

`include=DIR` on the command line puts the YAML files in `DIR/model`, `DIR/conversation`, `DIR/task`
and the like beside those of `conf`, and the modules directly in DIR into the package `included`:
`_target_: included.counting.Counting` is the constructor in `DIR/counting.py`. A folder is named by
the user alone: what a configuration or a stored run names there has to be included again.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from llava.conversation import DECLARED, Conversation, SeparatorStyle, conv_templates
from runners.errors import ConfigError
from runners.options.model import ConversationConfig

PACKAGE = "included"
_OPTION = "include="
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_in_use: list[Path] = []
_declared: dict[str, ConversationConfig] = {}

_NUM_SEPARATORS = {SeparatorStyle.TWO: 2, SeparatorStyle.LLAMA_2: 2}
"""In these styles the turns of the assistant end with a separator of their own."""
_OWN_ROLES = {
    SeparatorStyle.LLAMA_2: ("USER", "ASSISTANT"),
    SeparatorStyle.LLAMA_3: ("user", "assistant"),
    SeparatorStyle.PLAIN: ("", ""),
}
"""Styles that write the roles in their own way, whatever they are called."""


def included_folders() -> Sequence[Path]:
    """Returns the folders that the command line of this program includes."""
    return tuple(_in_use)


def included_modules() -> dict[str, Path]:
    """Returns the modules in these folders by their names in `included`."""
    return {path.stem: path for folder in _in_use for path in sorted(folder.glob("*.py"))}


def declared_templates() -> dict[str, Conversation]:
    """Returns the templates that these folders declare, by name."""
    return {name: conv_templates[name] for name in _declared}


def is_included(target: str) -> bool:
    """Whether a constructor is in a module of somebody's own, be its folder named or not."""
    return target.startswith(f"{PACKAGE}.")


def is_at_hand(target: str) -> bool:
    """Whether the module of a constructor is there: always, unless its folder is not included."""
    return not is_included(target) or target.split(".")[1] in included_modules()


def hash_included(target: str) -> str:
    """Returns a hash of an included module and of those that it names; empty for other targets.

    Modules that have nothing to do with it may be included beside it, or not.

    Args:
        target: The dotted name of a benchmark's constructor.
    """
    if not is_included(target):
        return ""
    modules, found = included_modules(), dict[str, bytes]()
    names = [target.split(".")[1]]
    while names:
        name = names.pop()
        if name in modules and name not in found:
            found[name] = modules[name].read_bytes()
            names += [word.decode() for word in _WORD.findall(found[name])]
    digest = hashlib.sha256()
    for name, content in sorted(found.items()):
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def split_include(argv: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Returns the command line without `include=DIR`, and the folders that it names so.

    An empty one stays, to be refused as that of any option that names a place.

    >>> split_include(["task=gqa", "include=[a,b]", "include=c"])[1] == [
    ...     Path(name).resolve() for name in "abc"
    ... ]
    True
    """
    others = [word for word in argv if not word.startswith(_OPTION) or word == _OPTION]
    values = [word.removeprefix(_OPTION) for word in argv if word.startswith(_OPTION)]
    names = [
        name.strip().strip("'\"")
        for value in values
        for name in (value[1:-1].split(",") if value[:1] + value[-1:] == "[]" else [value])
    ]
    folders = [Path(name).expanduser().resolve() for name in names if name]
    return others, list(dict.fromkeys(folders))


def use_folders(folders: Sequence[Path]) -> None:
    """Has the modules and templates of folders found, and no longer those of other folders.

    Raises:
        ConfigError: there is no such folder, it holds nothing that can be included, a name in it is
            taken, or a template in it is not declared rightly.
    """
    if list(folders) == _in_use:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    for name in _declared:
        del conv_templates[name]
    _declared.clear()
    _in_use[:] = []
    for folder in folders:
        _check_folder(folder)
    for one, other in combinations(folders, 2):
        _check_distinct(one, other)
    find_modules(folders)
    _in_use[:] = folders
    for folder in folders:
        for path in sorted((folder / "conversation").glob("*.yaml")):
            _declare(path)


def find_modules(folders: Sequence[Path]) -> None:
    """Has the modules of folders found, in a process for which another one has checked them."""
    if folders:
        sys.modules[PACKAGE] = package = ModuleType(PACKAGE)
        package.__path__ = [str(folder) for folder in folders]


def check_declaration(conversation: ConversationConfig) -> None:
    """Checks that a template is as its file declares it.

    Raises:
        ConfigError: an option changes it, so that another one would stand under its name.
    """
    declared = _declared.get(str(conversation.template))
    for name in ("style", "system", "roles", "separators", "stop"):
        value = getattr(conversation, name)
        if value is not None and value != getattr(declared, name, None):
            raise ConfigError(
                f"`conversation.{name}` cannot be given on the command line: a template is "
                "declared in a file, DIR/conversation/NAME.yaml, and chosen with include=DIR "
                "conversation=NAME. Write it there, under a name of its own."
            )


def conf_folder() -> Path:
    """Returns the folder of the configuration files that come with the project."""
    return Path(str(importlib.resources.files("conf")))


def _check_folder(folder: Path) -> None:
    groups = sorted(path.name for path in conf_folder().iterdir() if path.is_dir())
    groups = [name for name in groups if name.isidentifier() and not name.startswith("_")]
    if not folder.is_dir():
        raise ConfigError(f"`include` must name a folder, but {folder} is none. Check the path.")
    if not any((folder / name).is_dir() for name in groups):
        raise ConfigError(
            f"`include` must name a folder with configuration files, but {folder} has none of "
            f"{'/, '.join(groups)}/ in it. Put what you add there, such as "
            f"{folder / 'model' / 'mine.yaml'}."
        )
    for path in sorted(folder.glob("*/*.yaml")):
        try:
            OmegaConf.load(path)
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            said = " ".join(str(error).split())
            raise ConfigError(f"{path} cannot be read: {said}. Correct it.") from error
    _check_distinct(conf_folder(), folder)


def _check_distinct(one: Path, other: Path) -> None:
    """Checks that no file of two folders has the name of one in the other, which would hide it."""
    taken = set(_names(one)) & set(_names(other))
    if taken:
        name = min(taken)
        raise ConfigError(
            f"{other / name} has the name of {one / name}, so that only one of them could be "
            "found. Rename it."
        )


def _names(folder: Path) -> Iterator[str]:
    yield from (path.relative_to(folder).as_posix() for path in folder.glob("*/*.yaml"))
    yield from (path.name for path in folder.glob("*.py") if path.stem != "__init__")


def _declare(path: Path) -> None:
    """Adds the template that a file declares."""
    try:
        schema: Any = OmegaConf.structured(ConversationConfig)
        merged: Any = OmegaConf.merge(schema, OmegaConf.load(path))
        declared = cast("ConversationConfig", OmegaConf.to_object(merged))
        if declared.template != path.stem:
            raise ConfigError(
                f"`template` must be {path.stem}, the name of the file, but is "
                f"{declared.template!r}."
            )
        conv_templates[path.stem] = _read_template(declared)
    except (ConfigError, OmegaConfBaseException, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(f"{path} does not declare a template: {said}") from error
    _declared[path.stem] = declared


def _read_template(declared: ConversationConfig) -> Conversation:
    """The template, which no template of the package may have the name of."""
    if declared.template in conv_templates and declared.template not in _declared:
        raise ConfigError(f"{declared.template} is a template of the package. Choose another name.")
    styles = {each.name.lower(): each for each in SeparatorStyle}
    style, roles, separators = declared.style or "", declared.roles, declared.separators or []
    if style not in styles:
        raise ConfigError(f"`style` must be one of {', '.join(styles)}, but is {style!r}.")
    kind = styles[style]
    if (roles is None) != (kind in _OWN_ROLES) or (roles is not None and len(roles) != 2):
        wanted = "left out" if kind in _OWN_ROLES else "a list of two texts"
        raise ConfigError(f"`roles` must be {wanted} in style {style}, but is {roles!r}.")
    number = _NUM_SEPARATORS.get(kind, 1)
    if len(separators) != number:
        raise ConfigError(
            f"`separators` must be a list of {number} in style {style}, but is {separators!r}."
        )
    if kind is SeparatorStyle.GEMMA and declared.system:
        raise ConfigError("`system` must be left out in style gemma, which has no such turn.")
    return Conversation(
        system=declared.system or "",
        roles=_OWN_ROLES[kind] if roles is None else (roles[0], roles[1]),
        sep_style=kind,
        sep=separators[0],
        sep2=separators[-1] if number > 1 else None,
        version=DECLARED,
        stops=tuple(declared.stop or ()),
    )
