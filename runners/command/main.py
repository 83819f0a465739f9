"""`llava-evals PROGRAM OPTIONS`: what is asked for, by its name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module

from runners.command.names import COMMANDS, DETAILS, PROGRAMS, USAGE
from runners.environment import COMMAND, installed_version, source_hash
from runners.errors import BAD_INPUT, COMPLETE, INTERRUPTED, ConfigError
from runners.logs import drop_output, print_rest

_VERSIONS_OF = (COMMAND, "torch", "transformers")


def main(argv: Sequence[str]) -> int:
    """Runs what the first word names, with the others as its options; returns the exit code."""
    name, options = (argv[0], list(argv[1:])) if argv else ("--help", [])
    if name in PROGRAMS:
        sys.argv = [sys.argv[0], *options]
        return int(import_module(f"runners.{name}").main() or COMPLETE)
    try:
        return print_rest(_run(name, options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as in `list models | head`
        drop_output()
        return COMPLETE


def _run(name: str, options: list[str]) -> int:
    if name in ("--help", "-h", "help"):
        print(_help())
        return COMPLETE
    if name in ("--version", "-V", "version"):
        for package in _VERSIONS_OF:
            print(package, installed_version(package) or "is not installed")
        print("source", source_hash())
        return COMPLETE
    if name in USAGE and {"--help", "-h"} & set(options):
        told = [f"{COMMAND} {name} {USAGE[name]}", COMMANDS[name], DETAILS.get(name)]
        print("\n\n".join(filter(None, told)))
        return COMPLETE
    run = _own_commands().get(name)
    if run is None:
        raise ConfigError(f"{name!r} is nothing that {COMMAND} does. {_meant(name)}")
    return run(options)


def _own_commands() -> Mapping[str, Callable[[Sequence[str]], int]]:
    from runners.command.cleaning import clean
    from runners.command.completion import complete, print_script
    from runners.command.listing import print_list

    return {
        "list": print_list,
        "clean": clean,
        "completion": print_script,
        "complete": complete,
    }


def _help() -> str:
    names = {**PROGRAMS, **COMMANDS}
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {purpose}" for name, purpose in names.items()]
    return "\n".join(
        [
            f"{COMMAND} PROGRAM OPTION=VALUE ...",
            "",
            *lines,
            "",
            f"`{COMMAND} PROGRAM --help` lists the options of a program,",
            f"`{COMMAND} --version` the versions.",
        ]
    )


def _meant(name: str) -> str:
    names = [*PROGRAMS, *COMMANDS]
    near = get_close_matches(name.replace("-", "_"), names, n=1)
    if near:
        return f"Did you mean `{COMMAND} {near[0]}`?"
    if "=" in name:
        return f"Name the program first, as in `{COMMAND} eval {name}`."
    return f"It does {', '.join(names)}."
