"""What a program says of an error: one paragraph on stderr that names the option and a remedy."""

from __future__ import annotations

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from runners.errors import DISK_FULL, WriteError
from runners.logs import tell
from runners.options.conf_files import list_choices, read_defaults
from runners.options.engine import ENGINES
from runners.options.runner import RUNNERS

FULL_ERROR = "HYDRA_FULL_ERROR"
_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM})
FORBIDDEN = _NO_PERMISSION | {errno.EROFS}
NO_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP})
"""What the system says of a path that nothing can have, wherever it is used."""
NO_PLACE = frozenset(
    {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}
)
# an option of its own is of no use to any program, so what Hydra advises leads astray
_APPENDING = re.compile(
    r"(?P<refusal>Could not override '(?P<option>.*?)'\..*?)\nTo append to your .+? use \+.*",
    re.DOTALL,
)
# where Hydra looked and what it built are its own affairs
_INTERNAL = re.compile(
    r"(full_key:|reference_type=|object_type=|Config search path:|provider=|See https://hydra\.cc)"
)
_MERGING = re.compile(r"Error merging override (?P<override>.*)", re.DOTALL)
_COMPOSING = re.compile(
    r"In '(?P<group>[^']*)/(?P<name>[^'/]*)': \w+ raised while composing.*", re.S
)


def report(error: BaseException, message: str | None = None) -> None:
    """Prints what is said of an error on stderr, with its traceback if that was asked for."""
    if os.environ.get(FULL_ERROR) == "1":
        tell("".join(traceback.format_exception(error)))
    tell(message or paragraph(error))


def paragraph(error: BaseException) -> str:
    """Returns an error's message, with that of the library underneath, as one paragraph."""
    if isinstance(error, MissingMandatoryValue):
        name = str(error.full_key).removesuffix("._target_")  # of a component without a choice
        return f"`{name}` must be given. Set {name}=VALUE; see --help."
    parts = [str(error)]
    composing, within = _COMPOSING.fullmatch(parts[0]), error.__context__
    if composing and isinstance(within, OmegaConfBaseException):
        parts = [_name_file(composing["group"], composing["name"], within)]
    if isinstance(error, HydraException) and (advice := _APPENDING.fullmatch(parts[0])):
        parts = [_name_option(advice, error.__cause__)]
    if isinstance(error, HydraException) and (merging := _MERGING.fullmatch(parts[0])):
        parts = [f"`{merging['override']}` cannot be:"]
    if isinstance(error, OverrideParseException) and error.override not in parts[0]:
        parts.insert(0, f"`{error.override}` is no option:")
    if isinstance(error, HydraException) and error.__cause__ is not None:
        cause = str(error.__cause__)
        if not any(cause in part for part in parts):
            parts.append(cause)
    lines = [" ".join(line.split()) for part in parts for line in part.splitlines()]
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return " ".join(line for line in lines if line and not _INTERNAL.match(line))
    return "\n".join(line for line in lines if line)


def _name_file(group: str, name: str, cause: OmegaConfBaseException) -> str:
    """Names the YAML that Hydra cannot merge, with what is wrong in it."""
    path = list_choices(group).get(name, Path(group, f"{name}.yaml"))
    option = str(cause.full_key)
    if option == group:  # no program has such an option, so Hydra's own place for it is none
        is_suite = path.is_file() and read_defaults(path)
        package = f"tasks.{name}" if group == "task" and not is_suite else "_global_"
        return f"{path} must begin with `# @package {package}`, which says where its options go."
    meant = did_you_mean(option, _names_in(cause.parent_node))
    said = (cause.msg or "").partition("\n")[0]
    return f"{path} cannot set `{option}`: {said}. {meant}".strip()


def _name_option(advice: re.Match[str], cause: BaseException | None) -> str:
    """Names the option that is close to one that does not exist, instead of Hydra's advice."""
    if not isinstance(cause, OmegaConfBaseException) or not OmegaConf.is_dict(cause.parent_node):
        return advice["refusal"]
    missing = str(cause.full_key)
    rest = advice["option"].removeprefix(missing)
    known, (place, _, last) = _names_in(cause.parent_node), rest.rpartition(".")
    if rest:  # of which only what there is can be meant
        known = {name for name in known if last in _names_in(cause.parent_node, name + place)}
    if not rest and OmegaConf.is_dict(cause.parent_node.get("tasks")):
        known = known - {"tasks"} | {"task"}  # the option that fills them
    meant = did_you_mean(missing, known, rest)
    alone = advice["option"].rpartition(".")[2]
    if alone in _names_in(cause.parent_node, "." * (missing.count(".") + 1)):
        meant = f"Did you mean `{alone}`?"
    if not meant and rest and missing.rpartition(".")[0] == "tasks":
        return f"{advice['refusal']} Choose the benchmark first, with task={cause.key}."
    kind = OmegaConf.get_type(cause.parent_node)
    return " ".join(filter(None, [advice["refusal"], meant, of_another(kind, str(cause.key))]))


def _names_in(node: Any, place: str = ".") -> set[str]:
    """The names of the options at a place below a mapping; more dots in front lead upwards."""
    found = OmegaConf.select(node, place, throw_on_resolution_failure=False)
    return set(map(str, found)) if OmegaConf.is_dict(found) else set()


def did_you_mean(option: str, known: Iterable[str], rest: str = "") -> str:
    """Returns the question after the option that is close to one that does not exist; else nothing.

    `known` are the last parts of the names beside it; `rest` follows the name.

    >>> did_you_mean("engine.max_token", ["max_rows", "max_tokens"])
    'Did you mean `engine.max_tokens`?'
    """
    place, dot, last = option.rpartition(".")
    near = difflib.get_close_matches(last, known, n=1)
    return f"Did you mean `{place}{dot}{near[0]}{rest}`?" if near else ""


def of_another(kind: type | None, option: str) -> str:
    """Returns which other engine or workers have an option that these lack; else nothing."""
    group = next((group for group in (ENGINES, RUNNERS) if kind in group), ())
    others = [each.choice for each in group if option in {field.name for field in fields(each)}]
    return f"It is an option of {' and '.join(others)}." if others else ""


def explain_disk_error(error: OSError, config: DictConfig) -> str:
    """Which file the disk does not take or give, and the ways out."""
    action = "written" if isinstance(error, WriteError) else "read or written"
    said = str(error)
    if error.filename:
        said = f"{error.filename} cannot be {action}: {error.strerror}"
    if error.errno in DISK_FULL:
        remedy = "Make room there"
    elif error.errno in _NO_PERMISSION:
        remedy = "Change its permissions"
    else:
        remedy = "Check the path and the disk"
    if error.errno in NO_PATH:
        given = ", or give the run a shorter name with run=NAME" if "run" in config else ""
        return f"{said}. Correct the option or the data file that names it{given}."
    names = ["output"] if config.get("output") else ["output", "results_dir"]
    options = " or ".join(f"`{name}`" for name in names if name in config)
    return f"{said}. {remedy}{f', or choose another place with {options}' if options else ''}."
