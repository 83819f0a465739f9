"""What a run is, on disk: `manifest.json` with identity, environment and history.

Identity is everything that can change an answer. Only it can refuse to go on with a run; devices,
engine, versions and the like are environment, and a line of history at every resume.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from runners.errors import ConfigError
from runners.options.shard import Shard, read_shard
from runners.storage.answer_store import PREDICTIONS_FILE
from runners.storage.files import is_there, write_json
from runners.storage.typed import read_record

MANIFEST_FILE = "manifest.json"
_WAY_OUT = "Choose another name with run=NAME, or set the folder aside with overwrite=true."


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` holds.

    Attributes:
        identity: Everything that can change an answer.
        environment: Where the answers were computed, and the options of the run.
        history: One entry a session, the first one first.
    """

    identity: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]]

    @classmethod
    def from_json(cls, content: object) -> Manifest:
        """Returns the manifest in a JSON value.

        Raises:
            ValueError: it is none.
        """
        manifest = read_record(cls, content)
        imported, limit = manifest.imported_sha256, manifest.limit
        if not isinstance(imported, (str, type(None))):
            raise ValueError("`identity.imported` is of another type")
        if manifest.shard is not None and type(limit) not in (int, type(None)):
            raise ValueError("`environment.options.limit` is of another type")
        return manifest

    def to_json(self) -> dict[str, Any]:
        """Returns the object that `manifest.json` holds."""
        return asdict(self)

    @property
    def imported_sha256(self) -> str | None:
        """The hash of the foreign file that the answers are from; None if they are a model's."""
        return self.identity.get("imported")

    @property
    def shard(self) -> Shard | None:
        """Which part of a run it is; None for the whole."""
        runner = self.environment.get("runner")
        return read_shard(runner.get("shard")) if isinstance(runner, Mapping) else None

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the run was given, as far as the manifest keeps them."""
        options = self.environment.get("options")
        return options if isinstance(options, Mapping) else {}

    @property
    def limit(self) -> int | None:
        """How many questions the whole run asks; None for all."""
        return self.options.get("limit")

    @property
    def started(self) -> str | None:
        """When the run began, was imported or joined of its parts."""
        return _time(self.history[0]) if self.history else None

    @property
    def num_questions(self) -> int | None:
        """How many questions the last session had, answered ones included; None if unknown."""
        found = self.history[-1].get("num_questions") if self.history else None
        return found if type(found) is int else None

    @property
    def last_session(self) -> str | None:
        """When the last session on the run began."""
        return _time(self.history[-1]) if self.history else None


def _time(session: Mapping[str, Any]) -> str | None:
    return session.get("started") or session.get("imported") or session.get("merged")


def other_code(session: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Returns what tells the code of two sessions apart; None if it is the same, or not known.

    Each is what a manifest holds of a session, the `source` hash of which earlier versions lack.

    >>> other_code({"source": "a", "git": {"commit": "1"}}, {"source": "b", "git": None})
    'commit 1 there, an unknown commit here'
    """
    commits = [_commit(each.get("git")) for each in (session, here)]
    sources = [each.get("source") for each in (session, here)]
    known = sources if all(sources) else commits
    if not all(known) or known[0] == known[1]:
        return None
    if commits[0] == commits[1]:
        return "changes that are in no commit"
    names = [f"commit {commit}" if commit else "an unknown commit" for commit in commits]
    return f"{names[0]} there, {names[1]} here"


def _commit(git: object) -> str:
    commit = git.get("commit") if isinstance(git, Mapping) else None
    return str(commit)[:12] if commit else ""


def read_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest of a task folder, None if there is none.

    Raises:
        ConfigError: the file is no manifest, or answers lie there without one.
    """
    path = folder / MANIFEST_FILE
    if not is_there(path):
        if is_there(folder / PREDICTIONS_FILE):
            raise ConfigError(f"{folder} holds answers but no {MANIFEST_FILE}. {_WAY_OUT}")
        return None
    try:
        return Manifest.from_json(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no manifest: {error}. {_WAY_OUT}") from error


def amend_environment(folder: Path, found: Mapping[str, object]) -> None:
    """Adds what was found out later to the environment in a manifest.

    Raises:
        OSError: it cannot be written, or was removed.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        path = folder / MANIFEST_FILE
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    write_manifest(folder, replace(manifest, environment={**manifest.environment, **found}))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a task folder."""
    write_json(folder / MANIFEST_FILE, manifest.to_json())
