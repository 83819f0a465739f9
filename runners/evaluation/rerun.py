"""A run again, from its manifest, and whether it gives the same answers.

The manifest's environment keeps the options that a run was given (`repeatable_options`); together
with the resolved values of its identity they say everything that can change an answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.options.build import read_settings
from runners.options.eval import EvalConfig
from runners.options.names import is_set_aside, model_name
from runners.options.words import escape_interpolations
from runners.storage.identity import describe_differences, differences, engine_identity
from runners.storage.lines import is_failure
from runners.storage.manifest import MANIFEST_FILE, Manifest, read_manifest
from runners.storage.specs import given_options, read_spec
from runners.storage.stored import StoredTask

if TYPE_CHECKING:
    from omegaconf import DictConfig

_FREE = frozenset(
    {
        *("manifest", "run", "results_dir", "overwrite", "retry_failed", "max_failures"),
        *("dry_run", "check_counts", "device", "runner", "engine", "model", "model.path"),
        *("model.base", "canary"),
    }
)
"""Options that may be given beside a manifest: where things lie, and how the work is done."""
_FREE_PARTS = ("runner.", "engine.", "hydra.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One task of the run that is repeated.

    Attributes:
        folder: Where it lies.
        manifest: Its manifest.
        spec: Its task, as `_target_` plus values.
        options: The options of its run.
    """

    folder: Path
    manifest: Manifest
    spec: Mapping[str, Any]
    options: Mapping[str, Any]


def repeatable_options(settings: EvalConfig) -> dict[str, Any]:
    """Returns what a manifest has to keep of the options, so that its run can be repeated."""
    path = Path(settings.model.path)
    base = settings.model.base
    return {
        "model": {
            **asdict(settings.model),
            # A folder is found from anywhere; a hub id stays what it is.
            "path": str(path.resolve()) if path.exists() else settings.model.path,
            "base": str(Path(base).resolve()) if base and Path(base).exists() else base,
            "name": model_name(settings),
        },
        "quantization": asdict(settings.quantization),
        "generation": asdict(settings.generation),
        "seed": settings.seed,
        "limit": settings.limit,
        "check_counts": settings.check_counts,
    }


def rerun(config: DictConfig, path: str, evaluate: Callable[[DictConfig], int]) -> int:
    """Repeats a run under another name and compares the answers; returns the exit code.

    Args:
        config: The composed options; those of the manifest are put in.
        path: A run's folder, a task's folder in it, or its `manifest.json`.
        evaluate: Runs one composed configuration and returns its exit code.

    Returns:
        0 if the answers are the same, 1 if they differ or some are missing, else what `evaluate`
        returned.

    Raises:
        ConfigError: there is no manifest, it does not say enough, or other options contradict it.
    """
    originals = _read_originals(Path(path))
    _check_given_options()
    repeated = _configure(config, originals)
    code = evaluate(config)
    if config.dry_run or code not in (COMPLETE, INCOMPLETE):
        return code
    same = [_compare(original, repeated) for original in originals]
    return code if all(same) else INCOMPLETE


def _read_originals(path: Path) -> list[Original]:
    folder = path.parent if path.name == MANIFEST_FILE else path
    candidates = [folder]
    if not (folder / MANIFEST_FILE).is_file():
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        candidates = [place for place in there if not is_set_aside(place)]
    originals = [_read_original(place) for place in candidates if (place / MANIFEST_FILE).is_file()]
    if not originals:
        raise ConfigError(
            f"`manifest` must be a run's folder or a {MANIFEST_FILE} in it, but {path} is neither. "
            "Check the path."
        )
    first = originals[0]
    for other in originals[1:]:
        differing = differences(first.options, other.options)
        shared = ("dtype", "conversation", "engine")
        differing |= differences(_part(first.manifest, shared), _part(other.manifest, shared))
        if differing:
            raise ConfigError(
                f"{first.folder} and {other.folder} were answered under different options: "
                f"{', '.join(differing)}. Repeat them one by one, with manifest={first.folder}."
            )
    return originals


def _part(manifest: Manifest, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: manifest.identity.get(name) for name in names}


def _read_original(folder: Path) -> Original:
    manifest = read_manifest(folder.resolve())
    if manifest is None:
        raise ConfigError(f"{folder / MANIFEST_FILE} is not there any more.")
    if manifest.imported_sha256 is not None:
        raise ConfigError(
            f"{folder} was imported from an answer file, which no model can repeat. Name a run of "
            "runners.eval."
        )
    options = manifest.options
    if not isinstance(options.get("model"), dict):
        raise ConfigError(
            f"{folder / MANIFEST_FILE} does not keep the options of its run, because an earlier "
            "version wrote it. Repeat its `command` with another run=NAME."
        )
    spec = read_spec(manifest, folder)
    return Original(folder=folder.resolve(), manifest=manifest, spec=spec, options=options)


def _check_given_options() -> None:
    """Checks that the command line does not contradict the manifest."""
    contradicting = sorted(
        name
        for name in given_options()
        if name not in _FREE
        and not name.startswith(_FREE_PARTS)
        and not (name.startswith("tasks.") and name.endswith("_dir"))
    )
    if contradicting:
        raise ConfigError(
            f"`manifest` says how the run was made; {', '.join(contradicting)} cannot be given "
            f"with it. What can: {', '.join(sorted(_FREE))} and tasks.<name>.data_dir."
        )


def _configure(config: DictConfig, originals: list[Original]) -> Path:
    """Puts the options of the manifests into the composed ones; returns the new run's folder."""
    first, given = originals[0], given_options()
    stored = _stored_options(first)
    moved = {name: config.model[name] for name in ("path", "base") if f"model.{name}" in given}
    specs = {original.folder.name: dict(original.spec) for original in originals}
    for name, spec in specs.items():
        spec.update(_given_places(name, config, given))
    if "check_counts" in given:
        del stored["check_counts"]
    engine = first.manifest.identity["engine"]
    stored["engine"] = {
        name: value
        for name, value in engine.items()
        if name in config.engine and f"engine.{name}" not in given
    }
    run = config.run or f"{first.folder.parent.name}-rerun"
    with open_dict(config):
        config.tasks, config.data = {}, {}  # replaced, where the others are merged
        options = {**stored, "model": stored["model"] | moved, "tasks": specs, "run": run}
        config.merge_with(_as_text(options))
    if changed := differences(
        engine, engine_identity(read_settings(config, EvalConfig).engine), "engine."
    ):
        raise ConfigError(
            f"`manifest` says how the run was made, but {describe_differences(changed)}. Repeat it "
            "without other options of the engine."
        )
    repeated = Path(config.results_dir, run)
    if repeated.resolve() == first.folder.parent:
        raise ConfigError(
            f"`run` must be another name than that of the run that is repeated, but is {run!r}. "
            f"Leave it out for {run}-rerun."
        )
    print(f"repeating {first.folder.parent} as {repeated}", file=sys.stderr)
    return repeated


def _stored_options(original: Original) -> dict[str, Any]:
    """The options of a run; what they left open is taken from its identity."""
    identity, shard = original.manifest.identity, original.manifest.shard
    options: dict[str, Any] = {
        **original.options,
        "dtype": identity["dtype"],
        "conversation": {"template": identity["conversation"]},
    }
    if shard is not None:
        options["runner"] = {"shard": shard.option}
    return options


def _given_places(name: str, config: DictConfig, given: set[str]) -> dict[str, Any]:
    """Where the command line says that a task's data lie now."""
    places = {word.rpartition(".")[2]: word for word in given if word.startswith(f"tasks.{name}.")}
    return {option: OmegaConf.select(config, word) for option, word in places.items()}


def _compare(original: Original, repeated: Path) -> bool:
    """Says whether a task has the same answers as before."""
    before, now = StoredTask(original.folder), StoredTask(repeated / original.folder.name)
    if before.answers_sha256 == now.answers_sha256:
        print(f"{now.name}: the same answers, sha256 {now.answers_sha256}")
        return True
    answers, again = _answers(before), _answers(now)
    keys = answers.keys() | again.keys()
    number = sum(answers.get(key) != again.get(key) for key in keys)
    print(
        f"{now.name}: {number:,} of {len(keys):,} answers differ from those of "
        f"{before.answers_path}"
    )
    if now.manifest is not None:
        causes = differences(original.manifest.identity, now.manifest.identity)
        if causes:
            print(f"{now.name}: not the same run any more: {', '.join(causes)} changed")
    return False


def _answers(stored: StoredTask) -> dict[str, Any]:
    """The text of every answer, or what failed, by key."""
    return {
        key: line["metadata"]["error"] if is_failure(line) else line["text"]
        for key, line in stored.answers.lines.items()
    }


def _as_text(value: Any) -> Any:
    """Stored values such that nothing in them is an interpolation."""
    if isinstance(value, dict):
        return {name: _as_text(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    return escape_interpolations(value) if isinstance(value, str) else value
