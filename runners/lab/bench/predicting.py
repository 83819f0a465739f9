"""What a device would take for questions, from the packs that would be planned: no model is built.

Of a question file the real groups and texts count. Their tokens are counted by a rule, as a
checkpoint's own tokenizer is not at hand here; `runners.eval dry_run=true` uses that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.reading.images import ImageFile
from evals.reading.questions import read_question_lines
from evals.records import Sample
from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.plan import Pack, split_passes
from llava.generation.request import GenerationConfig, Request
from llava.tokenizer import load_tokenizer
from runners.errors import ConfigError
from runners.evaluation.dry_run import USUAL_NEW_TOKENS
from runners.evaluation.roofline import (
    DEVICES,
    GPU_PACK_TOKENS,
    Device,
    LanguageShape,
    Roofline,
    TowerShape,
    overall_s,
    plan_for,
)
from runners.evaluation.work import cut_into_pieces, most_tokens
from runners.lab.bench.models import DEMO_DIR, describe_model
from runners.lab.bench.workloads import PREFIX_TOKENS, as_samples, build_workload, find_words
from runners.options.bench import BenchConfig

_TOKENS_BEHIND_TEXT = 7
"""Of the vicuna_v1 template."""

_PIECE = re.compile(r"[A-Z]?[a-z]{1,7}|[A-Z]{1,2}|\d|\n|[^\w\s]|\w")
"""About a token of LLaMA's: over the files of GQA, POPE, TextVQA, VizWiz and ScienceQA the number
of these is 0.93 to 1.04 times that of tokens."""

Task = tuple[Sequence[Sample], Mapping[str, Request], int]


def predict_tasks(settings: BenchConfig) -> dict[str, Any]:
    """Returns the seconds of each stage on the device that `settings.roofline` names.

    Raises:
        ConfigError: device, model or workload is unknown.
        DataError: the question file is missing or broken.
    """
    device_name, device = _find_device(settings.roofline or "")
    try:
        config, tower = describe_model(settings.model)
        tasks = _read_tasks(settings)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    image_tokens = tower.num_features
    results = []
    for name, (samples, requests, num_new_tokens) in tasks.items():
        pieces = cut_into_pieces(samples, image_tokens, most_tokens(GPU_PACK_TOKENS))
        items = [[requests[sample.key] for sample in piece] for piece in pieces]
        roofline = Roofline(
            device=device,
            language=LanguageShape.of(config),
            tower=TowerShape.of(config, tower),
            dtype=settings.dtype,
            tower_dtype=settings.tower_dtype or "float32",
            num_new_tokens=num_new_tokens,
        )
        packs = plan_for(
            items, num_image_tokens=image_tokens, width=roofline.language.width, on_gpu=True
        )
        seconds = roofline.seconds(packs, len(samples))
        results.append(
            {
                "workload": name,
                "model": settings.model,
                "dtype": settings.dtype,
                "num_questions": len(samples),
                "num_packs": len(packs),
                "new_tokens_assumed": num_new_tokens,
                "computed_over_useful": computed_over_useful(packs),
                "total_s": overall_s(seconds),
                "stages_s": seconds,
            }
        )
    return {"roofline": device_name, "results": results}


def computed_over_useful(packs: Iterable[Pack]) -> dict[str, float]:
    """Returns how many tokens the passes of some packs compute on a GPU for one that counts."""
    computed, useful = {"prefix": 0, "suffix": 0}, {"prefix": 0, "suffix": 0}
    for pack in packs:
        for part in split_passes(pack.rows, None):
            rows = [pack.rows[row] for row in part]
            for name, lengths in (
                ("prefix", [row.prefix_tokens for row in rows]),
                ("suffix", [row.suffix_tokens for row in rows]),
            ):
                computed[name] += len(lengths) * max(lengths)
                useful[name] += sum(lengths)
    return {name: computed[name] / number for name, number in useful.items() if number}


def _find_device(name: str) -> tuple[str, Device]:
    for known, device in DEVICES.items():
        if known.replace(" ", "").lower() == name.replace(" ", "").lower():
            return known, device
    raise ConfigError(f"`roofline` must be one of {', '.join(DEVICES)}, but is {name!r}.")


def _read_tasks(settings: BenchConfig) -> dict[str, Task]:
    """Samples, requests by key and the length of an answer: of the file, or of each workload."""
    if settings.questions:
        return {Path(settings.questions).name: _read_file(Path(settings.questions))}
    tokenizer = load_tokenizer(DEMO_DIR)
    tasks: dict[str, Task] = {}
    for name in settings.workload:
        words = find_words(tokenizer)
        made = build_workload(name, settings.num_images, words, settings.seed)
        length = made[0].generation.max_new_tokens
        by_key = {request.key: request for request in made}
        tasks[name] = as_samples(made, tokenizer), by_key, length
    return tasks


def _read_file(path: Path) -> Task:
    samples, requests = [], {}
    rng = np.random.default_rng(0)
    for number, question in enumerate(read_question_lines(path)):
        images = tuple(ImageFile(image, Path(image)) for image in question.image_names)
        sample = Sample(
            key=str(number), question_id=number, text=question.text, prompt="", images=images
        )
        length = len(_PIECE.findall(question.text)) + _TOKENS_BEHIND_TEXT
        # any ids will do that are not alike, so that only what stands before an image is shared
        ids = [1, *range(2, PREFIX_TOKENS + 1), *[IMAGE_TOKEN_INDEX] * len(images)]
        ids += rng.integers(PREFIX_TOKENS + 1, 32_000, length).tolist()
        samples.append(sample)
        requests[sample.key] = Request(
            key=sample.key,
            prompt_ids=np.array(ids, dtype=np.int32),
            images=images,
            generation=GenerationConfig(),
        )
    return samples, requests, USUAL_NEW_TOKENS
