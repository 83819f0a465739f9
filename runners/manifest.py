"""What a run is, on disk: `manifest.json` with identity, environment and history.

Identity is everything that can change an answer. Only it can refuse to go on with a run; devices,
engine, versions and the like are environment, and a line of history at every resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runners.errors import ConfigError
from runners.files import write_json

MANIFEST_FILE = "manifest.json"
UNKNOWN = "unknown"
"""Stands for a value of the identity that is not known yet and is therefore not compared."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the manifest of a task folder, None if there is none.

    Raises:
        ConfigError: the file is no manifest, or answers lie there without one.
    """
    path = folder / MANIFEST_FILE
    way_out = "Choose another name with run=NAME, or set the folder aside with overwrite=true."
    if not path.exists():
        if (folder / "predictions.jsonl").exists():
            raise ConfigError(f"{folder} holds answers but no {MANIFEST_FILE}. {way_out}")
        return None
    try:
        manifest = json.loads(path.read_bytes())
        if isinstance(manifest["identity"], dict) and isinstance(manifest["history"], list):
            return dict(manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is no manifest: {error!r}. {way_out}") from error
    raise ConfigError(f"{path} is no manifest. {way_out}")


def write_manifest(
    folder: Path,
    *,
    identity: Mapping[str, Any],
    environment: Mapping[str, Any],
    history: list[dict[str, Any]],
) -> None:
    """Writes the manifest of a task folder."""
    manifest = {"identity": dict(identity), "environment": dict(environment), "history": history}
    write_json(folder / MANIFEST_FILE, manifest)


def engine_identity(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the engine's options that can leave an answer other than the sequential one.

    The options of a run with this identity are the same fields, so that it can be repeated.

    Args:
        engine: The engine, as `_target_` plus options.

    >>> engine_identity({"_target_": "PackedEngine", "max_tokens": 8, "near_tie_threshold": 0.5})
    {'replay': 'near_ties', 'near_tie_threshold': 0.5}
    """
    if engine.get("replay") == "off":
        return {"replay": "off"}
    threshold = engine.get("near_tie_threshold")
    given = {} if threshold is None else {"near_tie_threshold": threshold}
    return {"replay": "near_ties"} | given


def check_identity(folder: Path, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Checks that this run may append to the answers in a folder.

    Raises:
        ConfigError: it would compute other answers; the message names the fields.
    """
    differing = differences(stored, current)
    if differing:
        raise ConfigError(
            f"{folder} holds answers of another run: {describe_differences(differing)}. Use the "
            "options of that run to go on with it, choose another name with run=NAME, or set it "
            "aside with overwrite=true."
        )


def describe_differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns the fields that `differences` found, with both values, as text.

    >>> describe_differences({"seed": (0, 1)})
    '`seed` is 0 there and 1 here'
    """
    return "; ".join(
        f"`{name}` is {_shown(before)} there and {_shown(now)} here"
        for name, (before, now) in differing.items()
    )


def differences(
    stored: Mapping[str, Any], current: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Returns the dotted names of fields that differ, with both values; unknown ones are equal.

    >>> differences({"seed": 0, "data": {"a": 1}}, {"seed": 0, "data": {"a": 2}})
    {'data.a': (1, 2)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in [*stored, *(name for name in current if name not in stored)]:
        before, now = stored.get(name), current.get(name)
        if UNKNOWN in (before, now) or before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found.update(differences(before, now, f"{prefix}{name}."))
        else:
            found[prefix + name] = (before, now)
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:16] + '..."'
