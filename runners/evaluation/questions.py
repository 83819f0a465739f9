"""The questions of a benchmark that a model is asked, and what its answers come to.

Nothing of this lies on disk: what keeps answers does, see `runners.evaluation.resuming`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.benchmark import GENERATE, Benchmark
from evals.errors import DataError
from evals.reading.files import collection_paused
from evals.records import Failure, Sample, Score
from llava.content_hash import state_of
from llava.generation.request import CHOOSING, Completion, GenerationConfig
from runners.errors import ConfigError, StoreError
from runners.evaluation.identity import ModelIdentity, compose_identity
from runners.evaluation.images import ImageFiles
from runners.options.eval import EvalConfig
from runners.options.names import model_name
from runners.options.shard import read_shard
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_asked
from runners.storage.answer_lines import result_line, trace_line
from runners.storage.asked import asked_samples
from runners.storage.files import hash_data_files, sha256_of_json
from runners.storage.identity import hash_prompts
from runners.storage.summary import Hashes, Origin, SummaryFile

logger = logging.getLogger(__name__)


class AskedTask:
    """One benchmark with the questions that are asked.

    Construction reads the questions and looks at their images.

    Attributes:
        task: The benchmark.
        spec: The same as it is described, if that is known.
        limit: How many questions of the split are asked; None for all.
        all_samples: All questions of the split.
        samples: The questions that are asked: the first `limit` of the split, or a part of them,
            in which there may be none.
        images: The images of these, and which are not there.

    Raises:
        ConfigError: answers are ranked, and the options of generation would have it otherwise.
        DataError: the questions cannot be read, or are not as many as published.
    """

    def __init__(self, task: Benchmark, settings: EvalConfig, spec: TaskSpec | None = None) -> None:
        self.task = task
        self.spec = spec
        self.limit = settings.limit
        self._settings = settings
        self._model_id = model_name(settings)
        self._shard = read_shard(settings.runner.shard)
        self._require_choosing()
        self._states = self._look_at_data()  # before the reading
        with collection_paused():
            self.all_samples = task.samples()
            release = task.releases.get(task.split)
            if settings.check_counts and release is not None:
                release.check(f"{task.name} {task.split}", len(self.all_samples))
            self.samples = self.select(self.limit)
            self.images = ImageFiles(self.samples)

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.task.name

    def select(self, limit: int | None) -> list[Sample]:
        """Returns the questions that a run with this `limit`, or this part of one, asks."""
        return asked_samples(self.all_samples, limit, self._shard)

    @property
    def answerable(self) -> list[Sample]:
        """The questions that are asked and whose images are there."""
        return [sample for sample in self.samples if sample.key not in self.images.missing]

    def require_images(self) -> None:
        """Checks that a question can be answered, and one about an image if any shows one.

        Where others are asked, an image of any question of the split is enough.

        Raises:
            DataError: there is none.
        """
        missing = self.images.missing
        if not missing or _has_images(self.samples, self.images):
            return
        if len(missing) < len(self.samples) and _has_images(
            self.all_samples, ImageFiles(self.all_samples)
        ):
            return
        told = self.images.describe_missing(list(missing))
        raise DataError(
            f"{self.name}: {told} Put the images in place; no question about an image can be "
            f"answered. {self.task.without_images}".rstrip()
        )

    def report_missing(self, answered: AbstractSet[str]) -> None:
        """Says what becomes of questions without their images: an answer that is stored stays."""
        missing = self.images.missing
        for level, keys, told in (
            (
                logging.WARNING,
                missing.keys() - answered,
                f"They count as failed. {self.task.without_images}".rstrip(),
            ),
            (logging.INFO, missing.keys() & answered, "Their stored answers stay."),
        ):
            if keys:
                some = self.images.describe_missing([key for key in missing if key in keys])
                logger.log(level, "%s: %s %s", self.name, some, told)

    @cached_property
    def generation(self) -> GenerationConfig:
        """How answers are generated; the longest is the option's, else the benchmark's own."""
        options = self._settings.generation
        return options.to_config(
            max_new_tokens=options.max_new_tokens or self.task.max_new_tokens,
            seed=self._settings.seed,
        )

    def _require_choosing(self) -> None:
        """Checks that the options of generation are those of choosing, where answers are ranked."""
        if self.task.answer == GENERATE:
            return
        for name, usual in CHOOSING.items():
            value = getattr(self.generation, name)
            if value != usual:
                raise ConfigError(
                    f"`generation.{name}` must be {usual:g} where answers are ranked "
                    f"(tasks.{self.name}.answer={self.task.answer}), but is {value}. Leave it out, "
                    "or have the answers generated."
                )

    @cached_property
    def prompts_hash(self) -> str:
        """The hash of all question texts of the split, before the conversation template."""
        return hash_prompts(self.all_samples)

    @cached_property
    def data_hashes(self) -> dict[str, str]:
        """The hash of every file that decides questions and scores, by its path.

        Raises:
            DataError: a file was written to since the questions were read.
        """
        hashes = hash_data_files(self.task.data_files())
        if self._look_at_data() != self._states:
            raise DataError(
                f"The files of {self.name} were written to while they were read: "
                f"{', '.join(map(str, self._states))}. Start again once they are complete."
            )
        return hashes

    def require_same_data(self) -> None:
        """Checks that the data files, some of which only scoring reads, are still the same.

        Raises:
            StoreError: one was written to, came or went since the questions were read.
        """
        now = self._look_at_data()
        if now == self._states or hash_data_files(now) == self.data_hashes:
            return
        changed = [p for p in self._states | now if now.get(p) != self._states.get(p)]
        raise StoreError(
            f"{', '.join(map(str, changed))} changed while {self.name} was asked, so that its "
            "answers cannot be scored by what was asked. They are stored: put the files back and "
            "repeat the command, or begin a new run with run=NAME."
        )

    def _look_at_data(self) -> dict[Path, list[int]]:
        return {path: state_of(path.stat()) for path in self.task.data_files()}

    def identity(self, model: ModelIdentity) -> dict[str, object]:
        """Returns everything that can change an answer of a model, as the manifest holds it."""
        return compose_identity(
            model,
            prompts=self.prompts_hash,
            data=self.data_hashes,
            generation=self.generation,
            answer=self.task.answer,
        )

    def render(
        self, sample: Sample, result: Completion | Failure, *, worker: str | None, attempts: int = 1
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what `predictions.jsonl` and `trace.jsonl` hold of an answer or failure."""
        stats = self.images.stats(sample)
        trace = trace_line(result, worker=worker, attempts=attempts, image_stat=stats)
        return result_line(sample, result, self._model_id), trace

    def summarize(
        self,
        lines: Mapping[str, Mapping[str, Any]],
        failed: AbstractSet[str],
        *,
        limit: int | None,
        batch_check: Mapping[str, int],
        answers_hash: str | None,
        timing: Mapping[str, object],
    ) -> tuple[SummaryFile, list[Score]]:
        """Returns what `summary.json` holds of a run with this `limit`, and the scores.

        Lines of questions that such a run does not ask are left out; `failed` are the keys of those
        that record a failure.

        Raises:
            StoreError: the data files are others than those that were read.
        """
        self.require_same_data()
        asked = self.select(limit)
        is_limited = len(asked) < len(self.all_samples)
        if is_limited:
            lines = {s.key: lines[s.key] for s in asked if s.key in lines}
        return score_asked(
            self.task,
            lines,
            {key for key in failed if key in lines},
            asked,
            Origin(
                limited=is_limited,
                limit=limit if is_limited else None,
                batch_check=batch_check,
                timing=timing,
            ),
            Hashes(
                answers=answers_hash,
                prompts=self.prompts_hash,
                data=sha256_of_json(self.data_hashes),
            ),
        )


def _has_images(samples: Sequence[Sample], images: ImageFiles) -> bool:
    """Whether the images of any question are there."""
    return any(sample.images and sample.key not in images.missing for sample in samples)
