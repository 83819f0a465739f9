"""Stored runs of any size, written by the code that writes real ones, without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.records import Failure, Sample
from llava.generation.request import Completion
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_lines
from runners.storage.answer_lines import answer_line, failure_line
from runners.storage.answer_store import PREDICTIONS_FILE, TRACE_FILE
from runners.storage.files import hash_data_files, json_line, sha256_of_file, sha256_of_json
from runners.storage.identity import hash_prompts
from runners.storage.manifest import Manifest, write_manifest
from runners.storage.summary import Hashes, Origin, SummaryFile, write_results

MODEL = "synthetic"


@dataclass(frozen=True)
class Data:
    """Questions in LLaVA's JSONL beside a folder of images."""

    folder: Path

    @property
    def questions(self) -> Path:
        return self.folder / "questions.jsonl"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "_target_": "evals.tasks.custom.Custom",
            "questions": str(self.questions),
            "images": str(self.images),
            "scorer": "exact",
        }


@dataclass(frozen=True)
class Reply:
    """What a run made of one question: an answer, or a failure with its cause."""

    text: str = ""
    cause: str = ""
    message: str = "no reason"
    margin: float | None = 5.0
    replayed: bool = False
    flipped: bool = False
    groups: dict[str, str] = field(default_factory=dict)


def write_data(folder: Path, records: Sequence[dict[str, Any]]) -> Data:
    data = Data(folder)
    data.images.mkdir(parents=True, exist_ok=True)
    data.questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    return data


def write_picture(path: Path, seed: int, size: tuple[int, int] = (320, 240)) -> None:
    """A picture about as hard to compress as a photograph."""
    noise = np.random.default_rng(seed)
    rough = noise.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
    grain = noise.normal(0, 6, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=85)


def write_run(
    run_dir: Path,
    data: Data,
    replies: Sequence[Reply | None],
    *,
    template: str = "vicuna_v1",
    finished: bool = True,
) -> Path:
    """Stores one reply a question, in the order of the file; None for one that was not asked."""
    task = TaskSpec.from_json(data.spec).build()
    folder = run_dir / task.name
    folder.mkdir(parents=True)
    asked = [(s, r) for s, r in zip(task.samples(), replies, strict=True) if r is not None]
    stored = [_lines(sample, reply) for sample, reply in asked]
    lines = [line for line, _ in stored]
    (folder / PREDICTIONS_FILE).write_text("".join(map(json_line, lines)))
    traces = [{**trace, "line_sha256": sha256_of_json(line)} for line, trace in stored]
    (folder / TRACE_FILE).write_text("".join(map(json_line, traces)))
    hashes = hash_data_files(task.data_files())
    identity = {
        "model": run_dir.name, "conversation": template, "dtype": "float32",
        "prompt_version": 1, "data": hashes, "seed": 0,
    }  # fmt: skip
    environment = {"task": data.spec, "device_name": "cpu"}
    history = [{"started": "2026-01-01T00:00:00Z"}]
    write_manifest(folder, Manifest(identity=identity, environment=environment, history=history))
    if finished:
        keys = {sample.key for sample, _ in asked}
        figures, scores = score_lines(task, lines, len(asked), only=keys)
        groups = {sample.key: reply.groups for sample, reply in asked}
        made_of = Hashes(
            answers=sha256_of_file(folder / PREDICTIONS_FILE),
            prompts=hash_prompts(task.samples()),
            data=sha256_of_json(hashes),
            scorer=task.definition,
        )
        summary = SummaryFile.of(figures, Origin(), made_of)
        write_results(folder, summary, [replace(s, groups=groups[s.key]) for s in scores])
    return run_dir


def _lines(sample: Sample, reply: Reply) -> tuple[dict[str, Any], dict[str, Any]]:
    trace = {
        "key": sample.key,
        "min_margin": None if reply.cause else reply.margin,
        "replayed": reply.replayed,
        "flipped": reply.flipped,
        "worker": "local-0",
        "latency_s": 0.012,
        "attempts": 1,
        "image_sha256": [],
        "image_stat": [],
    }
    if reply.cause:
        failure = Failure(key=sample.key, cause=reply.cause, message=reply.message)
        return failure_line(sample, failure, MODEL), trace
    completion = Completion(
        key=sample.key,
        token_ids=(1, 2),
        text=reply.text,
        finish_reason="stop",
        num_prompt_tokens=648,
        min_margin=reply.margin,
        latency_s=0.012,
    )
    return answer_line(sample, completion, MODEL), trace


def write_large_pair(folder: Path, num_questions: int, num_images: int) -> None:
    """Two runs A and B in `folder/results` over many questions and distinct photographs."""
    words = ("red", "green", "blue", "cat", "dog", "bicycle", "street", "umbrella", "up", "left")
    records = [
        {
            "question_id": i,
            "image": f"{i % num_images}.jpg",
            "text": f"What is the {words[i % 10]} thing number {i} beside the {words[i % 7]} one?\n"
            "Answer the question using a single word or phrase.",
            "answer": words[i % 9],
        }
        for i in range(num_questions)
    ]
    data = write_data(folder / "data", records)
    for number in range(num_images):
        write_picture(data.images / f"{number}.jpg", number)
    for name, every in (("A", 5), ("B", 7)):
        replies = [
            Reply(
                text=words[i % 9 if i % every else i % 10],
                margin=(i % 50) / 10,
                groups={"kind": words[i % 6]},
            )
            for i in range(num_questions)
        ]
        write_run(folder / "results" / name, data, replies)
