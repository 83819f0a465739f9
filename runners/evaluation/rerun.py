"""A run again, from its manifest, and whether it gives the same answers and figures.

The manifest's environment keeps the options that a run was given (`repeatable_options`); together
with the resolved values of its identity they say everything that can change an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from evals.errors import DataError
from llava.conversation import conv_templates
from llava.generation.calibration import MAX_EXPECTED_FLIPS
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.evaluation.identity import engine_identity
from runners.logs import tell
from runners.options.benchmark_options import path_options
from runners.options.build import read_stored
from runners.options.engine import PackedOptions
from runners.options.eval import EvalConfig
from runners.options.given import GivenOptions
from runners.options.model import (
    ConversationConfig,
    GenerationOptions,
    ModelConfig,
    QuantizationConfig,
)
from runners.options.names import fitting_name, found_from_anywhere, model_name, run_name
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import is_failure
from runners.storage.comparable import obstacles
from runners.storage.identity import describe_differences, differences
from runners.storage.manifest import Manifest
from runners.storage.run_table import render_metric
from runners.storage.specs import read_spec
from runners.storage.stored import StoredTask, find_tasks, read_run

_FREE = frozenset(
    {
        *("manifest", "run", "results_dir", "overwrite", "retry_failed", "max_failures"),
        *("dry_run", "check_counts", "device", "runner", "engine", "model.path", "model.base"),
        *("canary", "include", "quiet", "log", "wandb"),
    }
)
"""Options that may be given beside a manifest: where things lie, and how the work is done."""
_FREE_PARTS = ("runner.", "engine.", "hydra.")
_NOT_FREE = frozenset({"runner.shard"})
_BY_PATH = "checkpoint"
"""The choice of `model` that names none: the path does."""


@dataclass(kw_only=True, slots=True)
class RepeatableOptions:
    """What a manifest keeps of the options of its run (`EvalConfig`), beside its identity."""

    model: ModelConfig = field(default_factory=ModelConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    seed: int = 0
    limit: int | None = None
    check_counts: bool = True


@dataclass(kw_only=True, slots=True)
class StoredEngine:
    """What the identity of a run holds of its engine, as `engine_identity` gives it."""

    replay: str = "near_ties"
    near_tie_threshold: float | None = None
    max_expected_flips: float = MAX_EXPECTED_FLIPS


@dataclass(kw_only=True, slots=True)
class ResolvedOptions:
    """What the identity of a run holds of options that may have been left open."""

    dtype: str | None = None
    conversation: str | None = None
    engine: StoredEngine = field(default_factory=StoredEngine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One task of the run that is repeated, with the options of its run and what they came to."""

    folder: Path
    manifest: Manifest
    spec: TaskSpec
    options: RepeatableOptions
    resolved: ResolvedOptions

    @property
    def name(self) -> str:
        """The benchmark's name, and that of the folder it is repeated in; this one may be aside."""
        return self.spec.build().name


def repeatable_options(settings: EvalConfig) -> RepeatableOptions:
    """Returns what a manifest has to keep of the options, so that its run can be repeated."""
    model = replace(
        settings.model,
        path=found_from_anywhere(settings.model.path),
        base=settings.model.base and found_from_anywhere(settings.model.base),
        name=model_name(settings),
    )
    kept = {each.name: getattr(settings, each.name) for each in fields(RepeatableOptions)}
    return RepeatableOptions(**{**kept, "model": model})


def rerun(
    settings: EvalConfig,
    given: GivenOptions,
    evaluate: Callable[[EvalConfig, Mapping[str, TaskSpec]], int],
) -> int:
    """Repeats a run under another name and compares answers and figures.

    The option `manifest` names a run's folder, a task's folder in it, or its `manifest.json`, of
    which the other options are taken.

    Returns:
        The exit code: 0 if answers and figures are the same, 1 if they differ or answers are
        missing, else what `evaluate` returned.

    Raises:
        ConfigError: there is no manifest, it does not say enough, or other options contradict it.
        DataError: the figures of the run cannot be read.
    """
    originals = _read_originals(Path(str(settings.manifest)))
    _check_not_contradicted(given, settings.tasks, originals)
    repeated = _configure(settings, given, originals)
    specs = {
        original.name: original.spec.with_options(given.tasks.get(original.name, {}))
        for original in originals
    }
    folder = Path(repeated.results_dir, run_name(repeated))
    if not settings.overwrite:
        _require_something_to_repeat(originals, folder)
    if not settings.quiet:
        tell(f"repeating {originals[0].folder.parent} as {folder}", logging.INFO)
    code = evaluate(repeated, specs)
    if settings.dry_run or code not in (COMPLETE, INCOMPLETE):
        return code
    same = [_compare(original, folder) for original in originals]
    return code if all(same) else INCOMPLETE


def _read_originals(path: Path) -> list[Original]:
    originals = [_read_original(task) for task in find_tasks(path)]
    if not originals:
        raise ConfigError(
            "`manifest` must be a run's folder or a manifest.json in it, but "
            f"{path} is neither. Check the path."
        )
    first = originals[0]
    for other in originals[1:]:
        differing = differences(asdict(first.options), asdict(other.options))
        differing |= differences(asdict(first.resolved), asdict(other.resolved))
        if differing:
            raise ConfigError(
                f"{first.folder} and {other.folder} were answered under different options: "
                f"{', '.join(differing)}. Repeat them one by one, with manifest={first.folder}."
            )
    return originals


def _read_original(stored: StoredTask) -> Original:
    manifest, folder, place = stored.manifest, stored.folder, str(stored.manifest_path)
    if manifest is None:
        raise ConfigError(f"{place} is not there any more.")
    if manifest.imported_sha256 is not None:
        raise ConfigError(
            f"{folder} was imported from an answer file, which no model can repeat. Name a run of "
            "runners.eval."
        )
    if "in_process" in manifest.identity:
        raise ConfigError(
            f"{folder} was answered inside another program, by a model in its memory, which cannot "
            "be loaded again. Save its checkpoint and evaluate that, or name a run of runners.eval."
        )
    options = manifest.options
    if not isinstance(options.get("model"), dict):
        raise ConfigError(
            f"{place} does not keep the options of its run, because an earlier "
            "version wrote it. Repeat its `command` with another run=NAME."
        )
    generation = options.get("generation")
    said = generation if isinstance(generation, dict) else {}
    if said.get("temperature") and said.get("num_beams") not in (None, 1):
        raise ConfigError(
            f"{folder} was answered with beams and a temperature together, which was neither a "
            "search nor sampling and cannot be repeated. Answer the questions anew without one "
            "of them, and another run=NAME."
        )
    _ = stored.summary  # which is compared in the end: a broken one is told before the work
    resolved = {each.name: manifest.identity.get(each.name) for each in fields(ResolvedOptions)}
    return Original(
        folder=folder,
        manifest=manifest,
        spec=read_spec(manifest, folder),
        options=read_stored(RepeatableOptions, dict(options), place),
        resolved=read_stored(ResolvedOptions, resolved, place),
    )


def _check_not_contradicted(
    given: GivenOptions, chosen: Collection[str], originals: Sequence[Original]
) -> None:
    """Checks that every option that is given has a meaning beside the manifest of these tasks."""
    tasks = [original.name for original in originals]
    moved = {
        f"tasks.{original.name}.{option}"
        for original in originals
        for option in path_options(original.spec.target)
    }
    # Hydra takes an option of a task only where that is chosen.
    repeated = {"model", *(["task"] if set(chosen) == set(tasks) else [])}
    contradicting = sorted(
        name
        for name in given.names - moved - repeated
        if name not in _FREE and (name in _NOT_FREE or not name.startswith(_FREE_PARTS))
    )
    if contradicting:
        raise ConfigError(
            f"`manifest` says how the run was made; {', '.join(contradicting)} cannot be given "
            f"with it. What can: {', '.join(sorted({*_FREE, *moved}))}."
        )
    model = given.choices.get("model", _BY_PATH)
    if model != _BY_PATH:
        raise ConfigError(
            f"`manifest` says which model is asked; model={model} cannot be given with it. Leave "
            "it out; where the checkpoint has moved, name its folder with model.path=DIR."
        )


def _require_something_to_repeat(originals: Sequence[Original], folder: Path) -> None:
    """Checks that what was repeated before is not all finished: that would be compared unasked.

    A run that was interrupted has a task without figures, or failures that the original has not.
    """
    there = read_run(folder).tasks
    begun = [each for each in originals if each.name in there]
    if begun and all(_is_finished(each, there[each.name]) for each in begun):
        raise ConfigError(
            f"{folder / begun[0].name} is finished, so that nothing would be repeated. Set "
            "it aside with overwrite=true, or repeat the run under another name with run=NAME."
        )


def _is_finished(original: Original, repeated: StoredTask) -> bool:
    return repeated.has_figures and _failed(repeated) <= _failed(StoredTask(original.folder))


def _configure(
    settings: EvalConfig, given: GivenOptions, originals: Sequence[Original]
) -> EvalConfig:
    """The options of the manifests, and those of the command line that may be given beside them."""
    first = originals[0]
    if (template := first.resolved.conversation) not in {None, *conv_templates}:
        raise ConfigError(
            f"{first.folder} was asked in the template {template!r}, which is not one of the "
            "project's. Name the folder that declares it with include=DIR."
        )
    try:
        repeated = _with_stored(settings, given, first)
    except ValueError as error:
        raise ConfigError(
            f"{StoredTask(first.folder).manifest_path} cannot be repeated: {error}"
        ) from error
    engine = first.manifest.identity["engine"]
    if changed := differences(engine, engine_identity(repeated.engine), "engine."):
        raise ConfigError(
            f"`manifest` says how the run was made, but {describe_differences(changed)}. Repeat it "
            "without other options of the engine."
        )
    if Path(repeated.results_dir, run_name(repeated)).resolve() == first.folder.parent:
        raise ConfigError(
            f"`run` must name another run than the one that is repeated, but {repeated.run!r} is "
            f"kept in {first.folder.parent} too. Leave it out, or choose another."
        )
    return repeated


def _with_stored(settings: EvalConfig, given: GivenOptions, original: Original) -> EvalConfig:
    """The options with all that a manifest says in their place, unless it is given again."""
    stored, resolved = original.options, original.resolved
    moved = {
        name: getattr(settings.model, name)
        for name in ("path", "base")
        if f"model.{name}" in given.names
    }
    kept = {each.name: getattr(stored, each.name) for each in fields(RepeatableOptions)}
    if "check_counts" in given.names:
        del kept["check_counts"]
    shard = original.manifest.shard
    engine = settings.engine
    if isinstance(engine, PackedOptions):
        of_engine = asdict(resolved.engine).items()
        unless_given = {k: value for k, value in of_engine if f"engine.{k}" not in given.names}
        engine = replace(engine, **unless_given)
    return replace(
        settings,
        **{**kept, "model": replace(stored.model, **moved)},
        dtype=resolved.dtype,
        conversation=ConversationConfig(template=resolved.conversation),
        engine=engine,
        runner=replace(settings.runner, shard=shard.option) if shard else settings.runner,
        run=settings.run or fitting_name(original.folder.parent.name, "rerun"),
    )


def _compare(original: Original, repeated: Path) -> bool:
    """Says whether a task has the same answers and figures as before, and what else differs."""
    before, now = StoredTask(original.folder), StoredTask(repeated / original.name)
    if is_same := before.answers_sha256 == now.answers_sha256:
        print(f"{now.name}: the same answers, sha256 {now.answers_sha256}")
    else:
        answers, again = _answers(before), _answers(now)
        keys = answers.keys() | again.keys()
        number = sum(answers.get(key) != again.get(key) for key in keys)
        print(
            f"{now.name}: {number:,} of {len(keys):,} answers differ from those of "
            f"{before.answers_path}"
        )
    other = _other_figures(before, now)
    for told in [*other, *_other_conditions(before, now)]:
        print(f"{now.name}: {told}")
    return is_same and not other


def _other_figures(before: StoredTask, now: StoredTask) -> list[str]:
    """Says which figures are others; nothing of a run without any yet, or of a judge's."""
    first, second = before.summary, now.summary
    if first is None or second is None or first.judge != second.judge:
        return []
    changed = [name for name in first.metrics if first.metrics[name] != second.metrics.get(name)]
    if not changed and bool(first.metrics) == bool(second.metrics):
        return []
    shown = (
        f"{name} is {render_metric(first, name)} there and {render_metric(second, name)} here"
        for name in changed or second.metrics
    )
    codes = {first.hashes.code, second.hashes.code}
    by = " (scored by another version of the code)" if len(codes - {None}) > 1 else ""
    return [f"other figures than those in {before.folder}: {', '.join(shown)}{by}"]


def _other_conditions(before: StoredTask, now: StoredTask) -> Iterator[str]:
    """Says what else is not as it was: of the identity, the data, the images and the scoring."""
    if before.manifest is not None and now.manifest is not None:
        causes = differences(before.manifest.identity, now.manifest.identity)
        if causes:
            yield f"not the same run any more: {', '.join(causes)} changed"
    try:
        found = obstacles(before.finished(), now.finished(), ("original", "repetition"))
    except (ConfigError, DataError) as error:  # such as of an early version, or edited
        yield f"what the figures are made of may differ: {error}"
    else:
        yield from (obstacle.message for obstacle in found)


def _answers(stored: StoredTask) -> dict[str, Any]:
    """The text of every answer, or what failed, by key."""
    return {
        key: line["metadata"]["error"] if is_failure(line) else line["text"]
        for key, line in stored.answers.lines.items()
    }


def _failed(stored: StoredTask) -> set[str]:
    return {key for key, line in stored.answers.lines.items() if is_failure(line)}
