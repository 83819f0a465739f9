"""A benchmark that is asked in one go: its questions, the answers to them, what they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.records import Failure, Sample, Score
from llava.generation.request import Completion
from runners.environment import now
from runners.evaluation.images import ImageFiles
from runners.evaluation.pieces import cut_into_pieces, shard_samples
from runners.evaluation.prompts import PromptRenderer
from runners.in_training.named_tasks import NamedTask
from runners.options.eval import EvalConfig
from runners.scoring.score import score_asked
from runners.storage.answers import AnswerStore
from runners.storage.files import hash_data_files, json_line, sha256_of_json
from runners.storage.folders import set_aside, writing
from runners.storage.identity import hash_prompts
from runners.storage.lines import result_line, trace_line
from runners.storage.manifest import Manifest, write_manifest
from runners.storage.summary import Hashes, Origin, SummaryFile, write_results
from runners.workers.interface import Engine, from_engine

Answer = tuple[dict[str, Any], dict[str, Any]]
"""What `predictions.jsonl` and `trace.jsonl` hold of a question."""

_TOKENS_OF_AN_IMAGE = 576  # only the size of a piece hangs on it


class PosedTask:
    """One benchmark with the questions that are asked, and nothing on disk until `store`.

    Args:
        named: The benchmark.
        settings: The options.

    Attributes:
        task: The benchmark.
        samples: The questions that are asked: the first `limit` of the split.

    Raises:
        DataError: the questions cannot be read, are not as many as published, or none of them can
            be answered.
    """

    def __init__(self, named: NamedTask, settings: EvalConfig) -> None:
        self.task = task = named.task
        self._spec = named.spec
        self._settings = settings
        self._all_samples = task.samples()
        release = task.releases.get(task.split)
        if settings.check_counts and release is not None:
            release.check(f"{task.name} {task.split}", len(self._all_samples))
        self.samples = self._all_samples[: settings.limit]
        self._images = ImageFiles(self.samples)
        missing = list(self._images.missing)
        if missing and len(missing) == len(self.samples):
            raise DataError(
                f"{task.name}: {self._images.describe_missing(missing)} Put the images in place; "
                "no question can be answered."
            )

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.task.name

    @cached_property
    def prompts_hash(self) -> str:
        """The hash of all question texts of the split, before the conversation template."""
        return hash_prompts(self._all_samples)

    @cached_property
    def _data_hashes(self) -> dict[str, str]:
        return hash_data_files(self.task.data_files())

    @property
    def _max_new_tokens(self) -> int:
        return self._settings.generation.max_new_tokens or self.task.max_new_tokens

    def answer(
        self, engine: Engine, renderer: PromptRenderer, *, part: int = 1, num_parts: int = 1
    ) -> dict[str, Answer]:
        """Returns the answer or failure of each question of one part, by key.

        Args:
            engine: Around the model.
            renderer: Makes prompts of questions.
            part: Which part of the questions is asked, from 1.
            num_parts: How many parts there are.
        """
        generation = self._settings.generation.to_config(
            max_new_tokens=self._max_new_tokens, seed=self._settings.seed
        )
        worker = f"rank {part - 1}"
        answers: dict[str, Answer] = {}
        samples = shard_samples(self.samples, part, num_parts)
        for piece in cut_into_pieces(samples, _TOKENS_OF_AN_IMAGE):
            by_key = {sample.key: sample for sample in piece}
            requests = []
            for sample in piece:
                missing = self._images.missing.get(sample.key)
                request = missing or renderer.build_request(sample, generation)
                if isinstance(request, Failure):
                    answers[sample.key] = self._render(sample, request, None)
                else:
                    requests.append(request)
            for given in engine.run(requests):
                result = from_engine(given)
                answers[result.key] = self._render(by_key[result.key], result, worker)
        return answers

    def summarize(
        self, answers: Mapping[str, Answer], timing: Mapping[str, Any]
    ) -> tuple[SummaryFile, list[Score]]:
        """Returns what `summary.json` holds, and the scores.

        Args:
            answers: Of all questions that are asked, by key.
            timing: What is told about the time.
        """
        lines, traces = self._in_order(answers)
        is_limited = len(self.samples) < len(self._all_samples)
        origin = Origin(
            limited=is_limited,
            limit=self._settings.limit if is_limited else None,
            batch_check={
                "recomputed": sum(trace["replayed"] for trace in traces),
                "flipped": sum(trace["flipped"] for trace in traces),
            },
            timing=timing,
        )
        hashes = Hashes(
            answers=_hash_lines(lines),
            prompts=self.prompts_hash,
            data=sha256_of_json(self._data_hashes),
        )
        asked = {sample.key for sample in self.samples}
        return score_asked(self.task, lines, asked, origin, hashes)

    def store(
        self,
        run_dir: Path,
        answers: Mapping[str, Answer],
        timing: Mapping[str, Any],
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> None:
        """Writes answers and scores as those of a stored run; what lies there is set aside.

        Args:
            run_dir: The run's folder.
            answers: See `summarize`.
            timing: See `summarize`.
            identity: What can change an answer, as far as all benchmarks share it.
            environment: Where the run took place.

        Raises:
            ConfigError: another process writes there, or this one may not.
        """
        folder = run_dir / self.name
        own = {
            "prompts": self.prompts_hash,
            "data": self._data_hashes,
            "generation": {**identity["generation"], "max_new_tokens": self._max_new_tokens},
        }
        with writing(folder):
            set_aside(folder)
            manifest = Manifest(
                identity={**identity, **own},
                environment={**environment, "task": self._spec and self._spec.to_json()},
                history=[{"started": now(), "num_stored": 0, **environment}],
            )
            write_manifest(folder, manifest)
            with AnswerStore(folder) as answer_store:
                for line, trace in answers.values():
                    answer_store.add(line, trace)
                answer_store.finish([sample.key for sample in self.samples])
            write_results(folder, *self.summarize(answers, timing))

    def _render(self, sample: Sample, result: Completion | Failure, worker: str | None) -> Answer:
        line = result_line(sample, result, str(self._settings.model.name))
        stats = self._images.stats(sample)
        return line, trace_line(result, worker=worker, attempts=1, image_stat=stats)

    def _in_order(
        self, answers: Mapping[str, Answer]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        ordered = [answers[sample.key] for sample in self.samples]
        return [line for line, _ in ordered], [trace for _, trace in ordered]


def _hash_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    """The hash that a file of these lines has."""
    return hashlib.sha256("".join(map(json_line, lines)).encode()).hexdigest()
