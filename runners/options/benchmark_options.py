"""The benchmarks of a program, and what the text of their options is.

A benchmark's constructor says it by its annotations: what may be a `Path` is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from runners.errors import ConfigError
from runners.options.conf_files import read_choice
from runners.options.kinds import Kind, of_kind
from runners.options.targets import find_benchmark

_BY_NAME = {"prompt_suffix": Kind.PROSE_OR_NULL, "name": Kind.NAME}
"""Options that are called the same in every benchmark that has them."""
_DATA = {"root": Kind.PATH}
_LISTS = (Sequence, list, tuple)
_PLAIN = (str, int, float, bool, NoneType, Path, *_LISTS)
TYPES = {"int": "whole number", "float": "number", "bool": "true, false", "str": "text"}
"""What options of these types may be."""
OPTION_TEXTS = {
    "root": "The folder that holds a folder for each benchmark.",
    "num_images": "Pictures of the generated data.",
    "seed": "Of the generated data.",
    "data_dir": "The benchmark's folder.",
    "source": "`files` in LLaVA's layout, or `hub` for the mirror on the Hugging Face hub.",
    "split": "Which part of the benchmark.",
    "max_new_tokens": "The longest answer, in tokens; generation.max_new_tokens overrides it.",
    "prompt_suffix": "What follows each question.",
    "judge": "The judge model whose replies count.",
    "replies": "Files with a judge's replies.",
    "questions": "Which questions.",
    "prompt": "How questions are asked.",
    "language": "`en` or `cn`.",
    "answer": "`generate`, or `rank` to rank the letters of the choices by likelihood.",
    "unparsed": "What an answer without a readable choice counts as: `wrong` or `random`.",
    "ocr_tokens": "Whether the prompt names the words that were read in the image.",
    "normalization": "`official`, or `always` for answers on which all annotators agree too.",
}
"""What `--help` says of the options of benchmarks; those of one alone are told by its docstring."""


def kind_of_benchmark_option(name: str, argv: Sequence[str]) -> Kind | None:
    """Returns what the text of a benchmark's option is; None if it is left to Hydra.

    The command line may name the benchmark's constructor; else its file does.

    >>> kind_of_benchmark_option("gqa.data_dir", []).name
    'PATH'
    """
    task, _, option = name.partition(".")
    begin = f"tasks.{task}._target_="
    given = [word.lstrip("+") for word in argv]
    named = [word.removeprefix(begin) for word in given if word.startswith(begin)]
    config = read_choice("task", task, argv)
    configured = "" if config is None else str(config.get("_target_", ""))
    try:
        constructor = find_benchmark(named[-1] if named else configured)
    except ConfigError:
        return None  # what is wrong with it is said when the benchmark is built
    parameter = inspect.signature(constructor, eval_str=True).parameters.get(option)
    return None if parameter is None else _kind_of(parameter)


def path_options(target: str) -> list[str]:
    """Returns the options of a benchmark that say where files or folders lie.

    >>> path_options("evals.tasks.gqa.GQA")
    ['data_dir']

    Raises:
        ConfigError: `target` names no benchmark.
    """
    parameters = inspect.signature(find_benchmark(target), eval_str=True).parameters
    return [name for name, each in parameters.items() if _kind_of(each) in (Kind.PATH, Kind.PATHS)]


def _kind_of(parameter: inspect.Parameter) -> Kind | None:
    types = _types_of(parameter.annotation)
    if Path in types:
        return Kind.PATHS if Sequence in types else Kind.PATH
    return Kind.TRUTH if bool in types else _BY_NAME.get(parameter.name)


def _types_of(annotation: Any) -> list[Any]:
    """The types that an annotation admits, without what is in brackets."""
    is_union = get_origin(annotation) in (Union, UnionType)
    members = get_args(annotation) if is_union else (annotation,)
    return [get_origin(member) or member for member in members]


def is_admitted(value: object, parameter: inspect.Parameter) -> bool:
    """Whether a benchmark's option may have a value by its annotation.

    What else than plain values an annotation admits is left to the constructor.
    """
    types = _types_of(parameter.annotation)
    if value is parameter.default or not all(kind in _PLAIN for kind in types):
        return True
    written = {float: int, Path: str, tuple: list}  # as a command line and a manifest have them
    admitted = (*types, *(written[kind] for kind in types if kind in written))
    return isinstance(value, admitted) and (bool in types or not isinstance(value, bool))


def describe_type(annotation: Any) -> str:
    """Returns in words what an option of a benchmark's constructor may be by its annotation."""
    types = _types_of(annotation)
    one = "path" if Path in types else TYPES.get(getattr(types[0], "__name__", ""), "text")
    word = "[values]" if any(kind in types for kind in _LISTS) else one
    return f"{word}, or null" if NoneType in types else word


# Without slots, since a class that inherits from two can have those of one only.
@dataclass(kw_only=True)
class BenchmarksConfig:
    """What every program that works on benchmarks is told of them.

    Attributes:
        tasks: One entry a benchmark: `_target_` plus its options.
        data: Where they lie.
        include: Folders with benchmarks of your own.
    """

    tasks: dict[str, Any] = field(
        default_factory=dict, metadata={"inside": kind_of_benchmark_option}
    )
    data: dict[str, Any] = field(
        default_factory=dict, metadata={"inside": lambda name, _: _DATA.get(name)}
    )
    include: list[str] = field(default_factory=list, metadata=of_kind(Kind.PATHS))
