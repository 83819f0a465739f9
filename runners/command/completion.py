"""What completes words by tab: `eval "$(llava-evals completion bash)"`.

The shell hands over the line as it is typed (`COMP_LINE`, `COMP_POINT`) and gets whole words back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from runners.command.cleaning import KINDS
from runners.command.names import COMMANDS, PROGRAMS
from runners.environment import COMMAND
from runners.errors import COMPLETE, ConfigError
from runners.options.build import default_spec
from runners.options.conf_files import list_choices, read_defaults
from runners.options.include import conf_folder, split_include, use_folders
from runners.options.register import SCHEMAS
from runners.storage.stored import list_runs

_SCRIPT = f"""\
_llava_evals() {{
    local IFS=$'\\n' word="${{COMP_LINE:0:COMP_POINT}}"
    word="${{word##* }}"
    COMPREPLY=($(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" {COMMAND} complete 2>/dev/null))
    # bash looks at what is behind the last `=` or `:` alone
    local cut=""
    if [[ "$COMP_WORDBREAKS" == *=* && "$word" == *[=:]* ]]; then
        cut="${{word%"${{word##*[=:]}}"}}"
    fi
    COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
    if [[ ${{#COMPREPLY[@]}} -eq 1 && "${{COMPREPLY[0]}}" == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}}
complete -o default -F _llava_evals {COMMAND}
"""
_SHELL = "bash"
_RUNS = frozenset({"run", "runs", "baseline", "candidate", "models"})
_LISTS = ("tasks", "models", "templates", "runs")


def print_script(words: Sequence[str]) -> int:
    """Prints what bash has to evaluate; returns the exit code.

    Raises:
        ConfigError: another shell is named.
    """
    if words not in ([], [_SHELL]):
        raise ConfigError(f"Words are completed in {_SHELL}, but not in {' '.join(words)!r}.")
    print(_SCRIPT, end="")
    return COMPLETE


def complete(_words: Sequence[str]) -> int:
    """Prints the words that can stand where the cursor is; returns the exit code."""
    logging.disable()  # a warning would stand in the line that is being typed
    line = os.environ.get("COMP_LINE", "")
    typed = line[: int(os.environ.get("COMP_POINT") or len(line))]
    words = [*typed.split(), *([""] if typed[-1:].isspace() else [])]
    for word in completions(words[1:]):
        print(word)
    return COMPLETE


def completions(words: Sequence[str]) -> list[str]:
    """Returns what the last of the words behind the command can become.

    >>> completions(["lea"]), completions(["eval", "quantization=n"])
    (['leaderboard'], ['quantization=nf4', 'quantization=none'])
    """
    *before, last = words or [""]
    return sorted({word for word in _candidates(before, last) if word.startswith(last)})


def _candidates(before: Sequence[str], last: str) -> Iterator[str]:
    if not before:
        yield from (*PROGRAMS, *COMMANDS, "--help", "--version")
    elif before[0] == "list":
        yield from _LISTS if len(before) == 1 else ("results_dir=", "include=")
    elif before[0] == "clean":
        yield from ("results_dir=", "yes=true", *(f"what={kind}" for kind in KINDS))
    elif before[0] == "completion":
        yield _SHELL
    elif before[0] in PROGRAMS:
        try:
            use_folders(split_include(before)[1])
        except ConfigError:  # the program will say what is wrong with it
            use_folders([])
        yield from _of_program(before[0], before[1:], last)


def _of_program(program: str, before: Sequence[str], last: str) -> Iterator[str]:
    groups = _groups(program)
    name, equals, value = last.partition("=")
    if not equals:
        yield from ("--help", "-m")
        yield from (f"{each}=" for each in groups)
        yield from (f"{each}=" for each in _options(_schema(program)) if each not in groups)
        yield from (f"tasks.{each}=" for each in _benchmark_options(before))
        return
    kept = value[: max(value.rfind("["), value.rfind(",")) + 1]  # of a list, what is there already
    yield from (f"{name}={kept}{each}" for each in _values(program, name, before))


def _schema(program: str) -> Any:
    """The options of a program as they are typed: those of `bench` without that name."""
    schema = SCHEMAS[program]
    return {each.name: each.default_factory for each in fields(schema)}.get(program, schema)


def _groups(program: str) -> list[str]:
    """The configuration groups that a program composes."""
    names = read_defaults(conf_folder() / f"{program}.yaml")
    return [name for name in names if (conf_folder() / name).is_dir()]


def _options(schema: Any, prefix: str = "") -> Iterator[str]:
    for each in fields(schema):
        inner = each.default_factory
        if each.name.startswith("_") or each.name in ("tasks", "data"):
            continue
        if isinstance(inner, type) and is_dataclass(inner):
            yield from _options(inner, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name


def _benchmark_options(before: Sequence[str]) -> Iterator[str]:
    """The options of the benchmarks that the line names already."""
    named = [word.removeprefix("task=").strip("[]") for word in before if word.startswith("task=")]
    for name in (name for names in named for name in names.split(",")):
        spec = default_spec(name) if name else None
        if spec is not None:
            yield from (f"{name}.{option}" for option in spec.options)


def _values(program: str, name: str, before: Sequence[str]) -> Iterable[str]:
    if name in _groups(program):
        return list_choices(name)
    if name in _RUNS:
        given = [w.removeprefix("results_dir=") for w in before if w.startswith("results_dir=")]
        folder = Path((given or ["results"])[-1])
        return [run.name for run in list_runs(folder)] if folder.is_dir() else []
    return _words(_schema(program), name)


def _words(schema: Any, name: str) -> Sequence[str]:
    """What the option with that whole name may be, as far as its schema lists it."""
    first, _, rest = name.partition(".")
    found = {each.name: each for each in fields(schema)}.get(first)
    if found is None:
        return ()
    if rest:
        inner = found.default_factory
        return _words(inner, rest) if is_dataclass(inner) else ()
    if isinstance(found.default, bool):
        return ("true", "false")
    words: Sequence[str] = found.metadata.get("choices") or found.metadata.get("words", ())
    return words
