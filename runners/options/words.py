"""Free text on the command line: values quoted before Hydra's grammar can trip over them.

Hydra reads `model.path=/a/b=c`, `image=a.jpg,b.jpg` or `prompt=What is this, really?` as syntax,
and `run=2026_11_27` as a number. The values of free-text options are therefore quoted here, so that
they mean what was typed.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import OmegaConf

from runners.options.conf_files import read_choice
from runners.options.kinds import Kind, kind_of

_UNSWEPT = frozenset({Kind.IMAGES})
"""Kinds beside prose in which a comma never sweeps, because it belongs to the value."""
_LISTS = frozenset({Kind.PATHS, Kind.NAMES, Kind.PARTS})
"""Kinds that may list several in brackets."""

_TRUTHS = dict.fromkeys(("yes", "y", "on", "1"), "true")
_TRUTHS |= dict.fromkeys(("no", "n", "off", "0"), "false")

_KEY = re.compile(r"^(?P<mark>\+{0,2})(?P<key>[\w.]+)=(?P<value>.*)$", re.DOTALL)
_QUOTES = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_PLAIN = re.compile(r"[\w./=+@-]+")
_QUOTED = re.compile(_QUOTES, re.DOTALL)
_OUTSIDE_QUOTES = re.compile(rf"""(?:[^,'"]|{_QUOTES}|['"])+""", re.DOTALL)
_LIST = re.compile(r"\[(?P<elements>.*)\]", re.DOTALL)


def is_multirun(argv: Sequence[str]) -> bool:
    """Whether the command line asks for a sweep: by `-m`, or by an experiment that is one."""
    if any(word in ("-m", "--multirun") for word in argv):
        return True
    names = [word.removeprefix("experiment=") for word in argv if word.startswith("experiment=")]
    # Where there is no such file, Hydra will say so.
    found = [config for name in names if (config := read_choice("experiment", name)) is not None]
    modes = [OmegaConf.select(config, "hydra.mode") for config in found]
    # Beside a flag such as `--cfg` the experiment is looked at, not run.
    return RunMode.MULTIRUN.name in modes and not any(word.startswith("-") for word in argv)


def quote_free_text(argv: Sequence[str], schema: type) -> list[str]:
    """Returns the command line with the values of free-text options quoted for Hydra.

    In a sweep a comma separates the jobs, except in prose and images, and `*` in the path of a
    checkpoint stands for every folder that it matches, those with lower numbers first. A path or
    name that is already in quotes, and `null`, are left as they are. `${` is text in prose and an
    interpolation in paths and names: `${oc.env:SCRATCH}` is a folder, and `run='s${seed}'` gives
    each job of a sweep a name of its own.

    >>> from runners.options.ask import AskConfig
    >>> quote_free_text(["model=llava-demo", "model.path=/a/b=c"], AskConfig)
    ['model=llava-demo', "model.path='/a/b=c'"]
    >>> quote_free_text(["-m", "model.path=a,b", "prompt=Red, or blue?"], AskConfig)
    ['-m', "model.path='a','b'", "prompt='Red, or blue?'"]
    >>> from runners.options.report import ReportConfig
    >>> quote_free_text(["runs=[12,-x]"], ReportConfig)
    ["runs=['12','-x']"]
    """
    sweeps = is_multirun(argv)
    return [_quote_word(word, argv, schema, sweeps=sweeps) for word in argv]


def _quote_word(word: str, argv: Sequence[str], schema: type, *, sweeps: bool) -> str:
    match = _KEY.match(word)
    kind = None if match is None else kind_of(schema, match["key"], argv)
    if match is None or kind is None:
        return word
    value = match["value"]
    listed = _LIST.fullmatch(value) if kind in _LISTS else None
    if kind in (Kind.PROSE, Kind.PROSE_OR_NULL):
        is_null = kind is Kind.PROSE_OR_NULL and value == "null"
        quoted = value if is_null else quote_literally(value)
    elif kind is Kind.TRUTH:
        words = [part.strip(" '\"") for part in value.split(",")]
        quoted = ",".join(_TRUTHS.get(each.lower(), each) for each in words)
    elif listed is not None and not sweeps:
        elements = _OUTSIDE_QUOTES.findall(listed["elements"])
        quoted = f"[{_quote_each([element.strip() for element in elements])}]"
    elif listed is not None or kind is Kind.PARTS:
        return word
    elif sweeps and kind not in _UNSWEPT:
        parts = _OUTSIDE_QUOTES.findall(value)
        if kind is Kind.CHECKPOINT:
            parts = [path for part in parts for path in _expand(part)]
        quoted = _quote_each(parts)
    else:
        quoted = _quote_each([value])
    return f"{match['mark']}{match['key']}={quoted}"


def _quote_each(values: Sequence[str]) -> str:
    return ",".join(map(_quote_unless_quoted, values))


def _expand(pattern: str) -> list[str]:
    """The folders that a pattern matches; itself if there is none, or if it is no pattern."""
    if not any(character in pattern for character in "*?") or _QUOTED.fullmatch(pattern):
        return [pattern]
    # Patterns may be absolute, and Path's `~` raises for an unknown user.
    found = filter(os.path.isdir, glob.glob(os.path.expanduser(pattern)))  # noqa: PTH111, PTH207
    return sorted(found, key=by_numbers) or [pattern]


def by_numbers(text: str) -> list[tuple[int, str]]:
    """Returns a key that sorts `checkpoint-500` before `checkpoint-1000`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def _quote_unless_quoted(value: str) -> str:
    if value == "null" or _QUOTED.fullmatch(value):
        return value
    # A shell expands `~` in front of a word, not behind the `=` of an option.
    return _quote(str(Path(value).expanduser()) if value.startswith("~/") else value)


def quote_literally(value: str) -> str:
    r"""Returns a value in quotes in which nothing is syntax, neither Hydra's nor OmegaConf's.

    >>> print(quote_literally("it's ${seed}"))
    'it\'s \${seed}'
    """
    return _quote(escape_interpolations(value))


def quote_if_read(value: str) -> str:
    r"""Returns a path or name as one types it, in quotes where anything in it would be syntax.

    >>> quote_if_read("/out/llava=mine"), quote_if_read("null"), quote_if_read("${seed}")
    ('/out/llava=mine', "'null'", "'\\${seed}'")
    """
    is_plain = _PLAIN.fullmatch(value) is not None and value != "null"
    return value if is_plain else quote_literally(value)


def escape_interpolations(value: str) -> str:
    r"""Returns a text that OmegaConf gives back as it was, where `${` would be an interpolation.

    >>> print(escape_interpolations("Say ${oc.env:HOME}?"))
    Say \${oc.env:HOME}?
    """
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def _quote(value: str) -> str:
    return QuotedString(value, Quote.single).with_quotes()


def imply_checkpoint(argv: Sequence[str]) -> list[str]:
    """Returns the command line with `model=checkpoint` where only `model.path` is given.

    Otherwise name and template of the default model would stand for a checkpoint that has neither.

    >>> imply_checkpoint(["model.path=runs/llava-v1.5-mine"])
    ['model=checkpoint', 'model.path=runs/llava-v1.5-mine']
    """
    words = list(argv)
    names_path = any(word.startswith("model.path=") for word in words)
    names_model = any(word.startswith("model=") for word in words)
    return ["model=checkpoint", *words] if names_path and not names_model else words


def spell_out_flags(argv: Sequence[str]) -> list[str]:
    """Returns the command line with the flags of our own as options.

    >>> spell_out_flags(["task=gqa", "--quiet"])
    ['task=gqa', 'quiet=true']
    """
    return ["quiet=true" if word == "--quiet" else word for word in argv]


def name_folder(argv: Sequence[str]) -> list[str]:
    """Returns the command line with a folder that stands alone given as `results_dir`.

    >>> name_folder(["results/", "port=8801"])
    ['results_dir=results/', 'port=8801']
    """
    return [
        word if word.startswith("-") or _KEY.match(word) else f"results_dir={word}" for word in argv
    ]


def nest(argv: Sequence[str], name: str) -> list[str]:
    """Returns the command line with every option below a name.

    For a program with options that are called like configuration groups of other programs, which
    Hydra would look for otherwise.

    >>> nest(["model=random-25m", "--help"], "bench")
    ['bench.model=random-25m', '--help']
    """
    return [
        f"{name}.{word}" if _KEY.match(word) and not word.startswith(("+", "hydra.")) else word
        for word in argv
    ]
