"""What the text of an option is: prose, a path, a name. Its field says so, and nothing else does.

Hydra's grammar would read `model.path=/a/b=c` as syntax and `run=2026_11_27` as a number. The
command line is therefore quoted by what its options are (`runners.options.words`). An option
without a kind is left to Hydra: it is a number, a truth value, or one of a few words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, is_dataclass
from enum import Enum, auto
from typing import Any

from omegaconf import MISSING


class Kind(Enum):
    """What the text of an option is.

    Attributes:
        PROSE: Nothing in it is syntax, and `null` is a word.
        PROSE_OR_NULL: Prose in which `null` stands for none.
        IMAGES: Files or addresses, separated by commas, which therefore never sweep.
        PATH: A file or folder.
        PATHS: A path, or several in brackets.
        CHECKPOINT: A folder or hub id; in a sweep `*` stands for every folder that it matches.
        NAME: A name, which may read like a number.
        NAMES: A name, or several in brackets.
        PARTS: Names in brackets, or a number.
        TRUTH: `true` or `false`, or another word for it that a program's own options take.
    """

    PROSE = auto()
    PROSE_OR_NULL = auto()
    IMAGES = auto()
    PATH = auto()
    PATHS = auto()
    CHECKPOINT = auto()
    NAME = auto()
    NAMES = auto()
    PARTS = auto()
    TRUTH = auto()


def of_kind(kind: Kind) -> dict[str, Kind]:
    """Returns the metadata of the field of an option of that kind."""
    return {"kind": kind}


def option(
    default: Any = MISSING,
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    remedy: str = "",
    allowed: str = "",
    words: Sequence[str] = (),
    kind: Kind | None = None,
) -> Any:
    """Returns the field of an option with what it may be, for checks and `--help`.

    Args:
        default: A value; of a list or mapping, what makes it.
        choices: The only words that it may be.
        least: The smallest number.
        remedy: What to do instead of giving a smaller one.
        allowed: What it may be, in words, where neither says it.
        words: Some of what it may be, which a shell completes, where there are no choices.
        kind: What its text is.
    """
    values = {
        "choices": choices,
        "least": least,
        "remedy": remedy,
        "allowed": allowed,
        "words": words,
    }
    metadata: dict[str, object] = {
        name: value for name, value in values.items() if value not in (None, "", ())
    }
    metadata |= {} if kind is None else of_kind(kind)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def device_option() -> Any:
    """Returns the field of an option that names a device."""
    return option(None, allowed="cpu, cuda, cuda:N, or null", words=("cpu", "cuda"))


def path_option(default: str | None = MISSING) -> Any:
    """Returns the field of an option that names a file or folder."""
    return field(default=default, metadata=of_kind(Kind.PATH))


def name_option(default: str | None = MISSING) -> Any:
    """Returns the field of an option that holds a name."""
    return field(default=default, metadata=of_kind(Kind.NAME))


def kind_of(schema: type, name: str, argv: Sequence[str]) -> Kind | None:
    """Returns what the text of the option with that whole name is; None if it is left to Hydra.

    A mapping whose names a schema cannot know has a function as `inside` in its metadata, which
    tells it from the rest of the name and the command line.
    """
    first, _, rest = name.partition(".")
    found = {each.name: each for each in fields(schema)}.get(first)
    if found is None:
        return None
    if not rest:
        return found.metadata.get("kind")
    if "inside" in found.metadata:
        return found.metadata["inside"](rest, argv)
    if isinstance(found.default_factory, type) and is_dataclass(found.default_factory):
        return kind_of(found.default_factory, rest, argv)
    return None
