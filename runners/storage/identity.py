"""Everything that can change an answer, and how two runs are told apart by it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evals.benchmark import Benchmark
from evals.records import Sample
from llava.conversation import conv_templates, first_name, render_question
from runners.errors import ConfigError
from runners.storage.files import sha256_of_json, sha256_of_json_list

UNKNOWN = "unknown"
"""Stands for a value of the identity that is not known yet and is therefore not compared."""
LATER_FILES = frozenset({"processor_config.json"})
"""Files of a model that older manifests do not name: what these runs read of them is not known."""
PROMPT_VERSION = 1
"""Goes up whenever the same question, template and tokenizer give another prompt."""
_ADDED_LATER = frozenset({"attention", "prompt_format", "tf32"})
"""Fields that manifests of earlier versions lack: what they held is not known."""
_FOLLOWS = {"prompt_format": "conversation"}
"""Fields that differ where another one does, which says it better."""

OTHER_PLACE = "choose another name with run=NAME, or set it aside with overwrite=true"
"""What can be done where answers of another run are in the way, beside going on with that run."""


def prompt_format(template: str) -> str:
    """Returns a hash of what a conversation template makes of a question, and of where it stops.

    A template that is edited, or rendered in another way, is another one under the same name.

    >>> len(prompt_format("vicuna_v1"))
    16
    """
    rendered = [
        render_question(template, text, num_images, marks_images=marks_images)
        for text in ("What is it?", "What is it?\n<image>")
        for num_images in range(3)
        for marks_images in (False, True)
    ]
    return sha256_of_json([*rendered, *conv_templates[template].stops])[:16]


def hash_prompts(samples: Iterable[Sample]) -> str:
    """Returns the hash of all question texts of a split, before the conversation template."""
    parts = ([sample.key, sample.text, sample.image_keys] for sample in samples)
    return sha256_of_json_list(parts)


def check_identity(
    folder: Path,
    stored: Mapping[str, Any],
    current: Mapping[str, Any],
    told: Mapping[str, tuple[Any, Any]] = MappingProxyType({}),
    way_out: str = OTHER_PLACE,
) -> None:
    """Checks that this run may append to the answers in a folder.

    `told` are options that differ, with both values: they say better than hashes which data are
    others. `way_out` is what can be done beside going on with that run.

    Raises:
        ConfigError: it would compute other answers; the message names the fields.
    """
    differing = differences(stored, current)
    if differing:
        said = [f"`{name}` is {was} there and {now} here" for name, (was, now) in told.items()]
        said.append(describe_differences(differing))
        raise ConfigError(
            f"{folder} holds answers of another run: {'; '.join(said)}. Use the "
            f"options of that run to go on with it, {way_out}."
        )


def require_same_questions(
    folder: Path, task: Benchmark, stored: object, samples: Iterable[Sample]
) -> str:
    """Checks that the answers in a folder are about these questions; returns the questions' hash.

    Raises:
        ConfigError: they are about others.
    """
    prompts = hash_prompts(samples)
    if differences({"prompts": stored}, {"prompts": prompts}):
        raise ConfigError(
            f"{folder} was asked other questions than {task.name} {task.split} has here. Give the "
            f"data of that run, for example with task={task.name} data.root=DIR, or for your own "
            "questions with task=custom tasks.custom.questions=FILE."
        )
    return prompts


def is_of_data(name: str) -> bool:
    """Whether a field of the identity is a hash of questions or data files.

    >>> is_of_data("data.questions.json"), is_of_data("prompts"), is_of_data("prompt_format")
    (True, True, False)
    """
    return name == "prompts" or name.partition(".")[0] == "data"


def describe_differences(
    differing: Mapping[str, tuple[Any, Any]], places: tuple[str, str] = ("there", "here")
) -> str:
    """Returns the fields that `differences` found, with both values, as text.

    >>> describe_differences({"seed": (0, 1)})
    '`seed` is 0 there and 1 here'
    >>> describe_differences({"quantization": (None, {"name": "nf4", "double_quant": True})})
    '`quantization` is none there and nf4 here'
    """
    return "; ".join(
        f"`{name}` is {_shown(before, now)} {places[0]} and {_shown(now, before)} {places[1]}"
        for name, (before, now) in differing.items()
    )


def differences(
    stored: Mapping[str, Any], current: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Returns the dotted names of fields that differ, with both values; unknown ones are equal.

    So are those that a manifest lacks because it is of an earlier version, and two names of one
    conversation template.

    >>> differences({"seed": 0, "data": {"a": 1}}, {"seed": 0, "data": {"a": 2}})
    {'data.a': (1, 2)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in [*stored, *(name for name in current if name not in stored)]:
        before, now = stored.get(name), current.get(name)
        if name == "conversation":  # earlier versions recorded the name that was typed
            before, now = _first_name(before), _first_name(now)
        is_unknown = name in _ADDED_LATER and None in (before, now)
        if is_unknown or UNKNOWN in (before, now) or before == now:
            continue
        cause = _FOLLOWS.get(name)
        if cause and differences({cause: stored.get(cause)}, {cause: current.get(cause)}):
            continue
        if name in LATER_FILES and name not in stored:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found.update(differences(before, now, f"{prefix}{name}."))
        else:
            found[prefix + name] = (before, now)
    return found


def _first_name(template: Any) -> Any:
    return first_name(template) if isinstance(template, str) else template


def _shown(value: Any, other: Any = None) -> str:
    """A value as text, beside the one that it differs from; of a component its name."""
    if isinstance(value, Mapping):
        parts = (f"{name}: {_shown(part)}" for name, part in value.items())
        return str(value["name"]) if "name" in value else f"{{{', '.join(parts)}}}"
    if value is None and isinstance(other, Mapping):
        return "none"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:16] + '..."'
