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
from runners.storage.files import write_json

MANIFEST_FILE = "manifest.json"


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
