"""First mistakes on a command line, told with their remedy before anything is composed.

What is looked at is the form of the words (dashes, missing `=`), the names of options, and the
choices of groups. Everything else is Hydra's, and the schema's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING as MUST_BE_GIVEN

from runners.options.conf_files import list_choices, read_choice, read_groups
from runners.options.engine import ENGINES
from runners.options.kinds import Kind, kind_of
from runners.options.runner import RUNNERS
from runners.options.spellings import NAMES, NEEDLESS, SWITCHES, near, squash
from runners.options.words import is_multirun

_FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"), 0),
    **dict.fromkeys(("--multirun", "-m", "--shell-completion", "-sc"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp"), 1),
    **dict.fromkeys(("--config-name", "-cn", "--config-dir", "-cd"), 1),
    **dict.fromkeys(("--experimental-rerun", "--info", "-i"), 1),
}
"""The flags that Hydra takes, and how many words may follow each of them."""
_OPTION = re.compile(r"(?P<name>\+{0,2}[\w.-]+)=(?P<value>.*)", re.DOTALL)
_NAME = re.compile(r"[\w-]+(/[\w.-]+)?")
_OFF = frozenset({"false", "no", "off", "0", "null", "none"})
_PLACES = (Kind.IMAGES, Kind.PATH, Kind.PATHS, Kind.CHECKPOINT)
_MOST_LISTED = 40
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_COMPONENTS = {"engine": ENGINES, "runner": RUNNERS}


def find_mistakes(argv: Sequence[str], program: str, schema: type) -> list[str]:
    """Returns a sentence about each word that cannot be meant as it stands, with what is meant."""
    return list(_CommandLine(argv, program, schema).mistakes())


class _CommandLine:
    """The words of one command line, held against what the program takes."""

    def __init__(self, argv: Sequence[str], program: str, schema: type) -> None:
        self._argv, self._program, self._schema = list(argv), program, schema
        inner = next((f for f in fields(schema) if f.name == program), None)  # as of `bench`
        self._prefix = "" if inner is None else f"{program}."
        self._fields: tuple[Field[Any], ...] = fields(schema)
        if inner is not None:
            self._fields = fields(inner.default_factory)  # type: ignore[arg-type]
        self._groups = read_groups(program)
        self._names = dict.fromkeys([*self._groups, *_names(self._fields)])
        self._sweeps = is_multirun(argv)

    def mistakes(self) -> Iterator[str]:
        words = [word.removeprefix(self._prefix) for word in self._argv]
        loose: list[str] = []
        while words:
            word = words.pop(0)
            flag = word.partition("=")[0]
            if flag in _FLAGS:
                if "=" not in word and words and "=" not in words[0]:
                    del words[: _FLAGS[flag]]
            elif word.startswith("-") and word.strip("-"):
                yield self._dashes(word, words)
            elif match := _OPTION.fullmatch(word):
                if told := self._option(match, words):
                    yield told
            elif _is_loose(word):
                loose.append(word)
        if loose:
            yield self._place(loose)

    def _option(self, match: re.Match[str], words: list[str]) -> str | None:
        """About `name=value`, with the words that follow as what spaces have torn off it."""
        word = match[0]
        if whole := _join_list(word, words):
            return f"Leave no spaces in a list: write `{whole}`."
        if not match["value"] and words and _is_loose(words[0]):
            return f"Leave no space behind `{word}`: write `{word}{words.pop(0)}`."
        name, value = match["name"].lstrip("+"), match["value"]
        said = self._check_text(name, value) or self._advise(name, value)
        return f"`{word}`: {said}" if said else None

    def _check_text(self, name: str, value: str) -> str | None:
        """What is wrong with the text of an option, whatever it would name."""
        kind = kind_of(self._schema, self._prefix + name, self._argv)
        if kind in _PLACES and not value.strip(" ,'\""):
            return "It is empty, perhaps because a shell variable is not set. Give it a value."
        is_pattern = kind is Kind.CHECKPOINT and set(value) & set("*?") and "'" not in value
        is_run = not any(word.startswith("-") for word in self._argv)  # not looked at by `--cfg`
        if is_pattern and is_run and not self._sweeps and not os.path.lexists(value):
            return "A pattern stands for several folders, one job each. Put -m before the options."
        if kind is Kind.PROSE_OR_NULL and re.search(r"\\n(?![a-z])", value):  # no \neq of LaTeX
            return rf"`\n` is a backslash and an n. For a line break let bash read {name}=$'\n...'."
        if kind is Kind.PROSE_OR_NULL and re.fullmatch(r"(['\"])((?!\1).)*\1", value, re.DOTALL):
            return f"The quotes would be part of the text: leave them out, as in '{name}= TEXT'."
        return None

    def _dashes(self, word: str, words: list[str]) -> str:
        """About an option that is written as a flag, with the words that follow as its values."""
        name, equals, value = word.lstrip("-").partition("=")
        values = [value] if equals else []
        while not equals and words and _is_loose(words[0]):
            values.append(words.pop(0))
        known = name if name in self._names else name.replace("-", "_")
        value = ",".join(values) or ("true" if self._is_switch(known) else "VALUE")
        if len(values) > 1:
            value = f"[{value}]"
        said = self._advise(known, value)
        if said is None:
            close = known if self._takes(known) else near(known, self._names)
            said = f"Write `{close}={value}`." if close else "See --help for the options."
        return f"`{word}`: options are written NAME=VALUE, without dashes. {said}"

    def _advise(self, name: str, value: str) -> str | None:
        """What to write instead of `name=value`; None if nothing is known against it."""
        if name in self._groups:
            return self._check_choice(name, value)
        if self._takes(name) or "." in name or name.startswith("hydra"):
            return None  # what is wrong below a name is said where it is composed
        name = name.lower().replace("-", "_")
        about, needless = NEEDLESS.get(name, ("", ""))
        if about in self._names:
            return needless
        switch = SWITCHES.get(name, "")
        if switch.partition("=")[0] in self._names:
            return "Leave it out." if value.lower() in _OFF else f"Write `{switch}`."
        target = self._called(name)
        if target is None:
            return None
        if target == "model.path":  # lmms-eval has it among others, in `model_args`
            value = re.sub(r"^pretrained=|,\w+=.*", "", value)
        if target == "task" and "," in value:
            value = f"[{value.strip('[]')}]"
        return self._advise(target, value) or f"Did you mean `{target}={value}`?"

    def _is_switch(self, name: str) -> bool:
        is_truth = any(f.name == name and isinstance(f.default, bool) for f in self._fields)
        return is_truth or name in SWITCHES

    def _takes(self, name: str) -> bool:
        if name == "tasks" and "task" in self._groups:  # which fills them
            return False
        return name in self._names or name.startswith(("tasks.", "data."))

    def _called(self, name: str) -> str | None:
        """The option that the name of another program, or the last part of a name here, means."""
        target = NAMES.get(name, "")
        task = target.split(".")[1] if target.startswith("tasks.") else None
        if target in self._names or (task and "task" in self._groups):
            return target
        whole = [known for known in self._names if squash(known) == squash(name)]
        ends = (name, target.rpartition(".")[2])
        last = [known for known in self._names if known.rpartition(".")[2] in ends]
        return next(iter([*whole, *last]), None)

    def _check_choice(self, group: str, value: str) -> str | None:
        """What to write where a group has no such choice, or several are given where one can be."""
        plain = value.strip("'\"")
        if not plain or plain == "null" or any(mark in plain for mark in "$*("):
            return None
        if any(word.lstrip("+").startswith("hydra.searchpath") for word in self._argv):
            return None
        known = [*list_choices(group, self._argv), *_registered(group)]
        is_list = plain[0] == "[" and plain[-1] == "]"
        parts = [part.strip().strip("'\"") for part in plain.strip("[]").split(",")]
        missing = [part for part in parts if part and part not in known]
        if not missing and (is_list or self._sweeps or len(parts) == 1):
            return None
        if len(missing) == 1 and (said := self._instead_of_choice(group, missing[0])):
            return said
        parts = [word for part in parts for word in part.split()]
        meant = [part if part in known else near(part, known) for part in parts]
        told = [f"There is no {group} {', '.join(missing)}."] if missing else []
        if None not in meant:
            joined = ",".join(map(str, meant))
            is_list = is_list or (group == "task" and len(parts) > 1 and not self._sweeps)
            right = f"{group}=[{joined}]" if is_list else f"{group}={joined}"
            told.append(f"Did you mean `{right}`?" if is_list or missing else "One can be chosen.")
        if missing:
            names = ", ".join(known) if len(known) <= _MOST_LISTED else "listed by --help"
            told.append(f"The choices are {names}.")
            if None in meant and "include" in self._names:
                told.append(f"A {group} of your own is found with include=DIR.")
        if len(parts) > 1 and not (self._sweeps or missing):
            told.append("Add -m for one run of each.")
        return " ".join(told)

    def _instead_of_choice(self, group: str, value: str) -> str | None:
        """The other option that says it, where what is given is no name of the group."""
        if group == "model" and _is_place(value):
            name = Path(value).name
            zoo = read_choice("model", name, self._argv)
            entry = f", or `model={name}`, its entry in the zoo" if zoo is not None else ""
            return (
                "`model` is a name of the zoo. A checkpoint in a folder or on the hub is "
                f"`model.path={value}`{entry}."
            )
        if group == "data" and _is_place(value):
            return f"The folder of all benchmarks is `data.root={value}`."
        if group == "task" and value.endswith((".jsonl", ".json")):
            return f"Own questions are `task=custom tasks.custom.questions={value}`."
        switch = SWITCHES.get(value.lower().replace("-", "_"), "")
        other = switch.partition("=")[0]
        if group in ("quantization", "generation") and other in self._names and other != group:
            return f"That is `{switch}`."
        return None

    def _place(self, words: Sequence[str]) -> str:
        """About words without an option: what they are the values of."""
        placed: list[str] = []
        rest: list[str] = []
        remaining = [word for word in words if word != "="]
        while remaining:
            word = remaining.pop(0)
            if self._takes(word) and remaining:
                placed.append(f"{word}={remaining.pop(0)}")
            elif found := self._option_for(word):
                placed.append(f"{found}={word}")
            else:
                rest.append(word)
        must = [each.name for each in self._fields if _is_mandatory(each)]
        if "runs" in must and len(rest) > 1:
            placed.append(f"runs=[{','.join(rest)}]")
            rest = []
        placed += [f"{name}={word}" for name, word in zip(must, rest, strict=False)]
        quoted = "`, `".join(words)
        if not placed or len(rest) > len(must):
            return f"`{quoted}`: every option is written NAME=VALUE; see --help for their names."
        written = " ".join(f'"{word}"' if " " in word else word for word in placed)
        return f"`{quoted}`: every option is written NAME=VALUE. Did you mean `{written}`?"

    def _option_for(self, word: str) -> str | None:
        """The option that a value is surely one of."""
        for group in ("task", "model"):
            if group in self._groups and word in list_choices(group, self._argv):
                return group
        kinds = {each.name: each.metadata.get("kind") for each in self._fields}
        is_picture = word.lower().endswith(_PICTURES) or word.startswith(("http:", "https:"))
        if kinds.get("image") is Kind.IMAGES and is_picture:
            return "image"
        is_mandatory = any(map(_is_mandatory, self._fields))
        if "model" in self._groups and _is_place(word) and not is_mandatory:
            return "model.path"
        if "predictions" in kinds and word.endswith(".jsonl"):
            return "predictions"
        if "results_dir" in kinds and Path(word).is_dir() and not is_mandatory:
            return "run" if "run" in kinds else "results_dir"
        return None


def _registered(group: str) -> list[str]:
    """The choices that this process has registered with Hydra, beside the files."""
    store = sys.modules.get("hydra.core.config_store")
    found = {} if store is None else store.ConfigStore.instance().repo.get(group, {})
    return [str(name).removesuffix(".yaml") for name in found]


def _join_list(word: str, words: list[str]) -> str:
    """A list that spaces have broken into words, of which `words` loses those that are its rest."""
    inside = [word]
    if "=[" in word and word.count("[") > word.count("]"):
        ends = (n for n, each in enumerate(words) if each.endswith("]") or "=" in each)
        end = next(ends, len(words))
        inside += words[: end + 1]
    if len(inside) == 1 or not inside[-1].endswith("]") or "=" in inside[-1]:
        return ""
    del words[: len(inside) - 1]
    parts = [part.strip(",") for part in inside]
    return ",".join(part for part in parts if part).replace("[,", "[").replace(",]", "]")


def _is_loose(word: str) -> bool:
    """Whether a word is a value without an option, and nothing of Hydra's."""
    return word == "=" or ("=" not in word and not word.startswith(("-", "~", "+")))


def _is_place(value: str) -> bool:
    """Whether a value names a folder, or an owner and a name on the hub."""
    is_path = value.startswith((".", "~", os.sep)) or Path(value).is_dir()
    return is_path or ("/" in value and _NAME.fullmatch(value) is not None)


def _is_mandatory(field: Field[Any]) -> bool:
    return field.default == MUST_BE_GIVEN and field.default_factory is MISSING


def _names(of: Sequence[Field[Any]], prefix: str = "") -> Iterator[str]:
    """The whole names of options, those of every engine and of all workers."""
    for field in of:
        name = prefix + field.name
        yield name
        inner = field.default_factory
        if isinstance(inner, type) and is_dataclass(inner):
            for kind in _COMPONENTS.get(field.name, (inner,)):
                yield from _names(fields(kind), f"{name}.")
