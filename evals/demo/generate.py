"""Writes the demo data: three benchmarks in their official file formats, on first use.

The layout below the root is LLaVA's:

    vqav2/v2_OpenEnded_mscoco_demo_questions.json, v2_mscoco_demo_annotations.json,
          demo/COCO_demo_000000000001.jpg
    gqa/data/demo_questions.json, demo_choices.json, images/d1.jpg
    scienceqa/problems.json, pid_splits.json, images/demo/1/image.png

Everything is drawn from `[space, seed, benchmark, picture]`, so any picture can be had alone, more
pictures never change the ones before, and the spaces of evaluation and of training share none.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.demo import gqa, scienceqa, vqav2
from evals.demo.drawing import draw_scene
from evals.demo.scene import sample_scene

DEMO_SPLIT = "demo"
DEMO_VERSION = 1
"""Goes up whenever equal arguments give other files."""

DEFAULT_NUM_IMAGES = 12
GQA_QUESTIONS_PER_IMAGE = 31
VQAV2_QUESTIONS_PER_IMAGE = 5
VQAV2_IMAGES_PER_GQA_IMAGE = 5
SCIENCEQA_QUESTIONS_PER_GQA_IMAGE = 10

JPEG_OPTIONS: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
_SHARE_WITH_PICTURE = 0.5
_BENCHMARKS = ("vqav2", "gqa", "scienceqa")  # their places are part of the random seed
_PARAMETERS_FILE = "demo_data.json"

_Drawn = Callable[[str, int], np.random.Generator]
"""The random generator of a benchmark's picture, which is counted from 1."""


class SeedSpace(IntEnum):
    """What pictures are for; those of one space are never drawn in the other."""

    EVALUATION = 0
    TRAINING = 1


def picture_generator(
    space: SeedSpace, seed: int, benchmark: str, picture: int
) -> np.random.Generator:
    """The random generator from which one picture of a benchmark and its questions are drawn."""
    return np.random.default_rng([int(space), seed, _BENCHMARKS.index(benchmark), picture])


def ensure_demo_data(
    root: Path,
    num_images: int = DEFAULT_NUM_IMAGES,
    seed: int = 0,
    space: SeedSpace = SeedSpace.EVALUATION,
) -> Path:
    """Generates the demo data unless it is there already; two processes at once are safe.

    Args:
        root: Where demo data of any version and size lie, each in a folder of its own.
        num_images: Number of GQA pictures, each with 31 questions. The other benchmarks grow along:
            5 `num_images` VQAv2 pictures with 5 questions each and 10 `num_images` ScienceQA
            questions, about half of them with a picture. The default gives 372, 300 and 120
            questions.
        seed: Other seeds give other pictures and questions.
        space: Data to evaluate on, or data to train on.

    Returns:
        The data root, with `vqav2`, `gqa` and `scienceqa` below it.

    Raises:
        ValueError: `num_images` or `seed` is out of range.
    """
    if num_images < 1:
        raise ValueError(f"`num_images` must be at least 1, but is {num_images}.")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or larger, but is {seed}.")
    parameters = {
        "version": DEMO_VERSION,
        "num_images": num_images,
        "seed": seed,
        "space": space.name.lower(),
    }
    target = root / "-".join(f"{name[0]}{value}" for name, value in parameters.items())
    if _is_complete(target, parameters):
        return target
    root.mkdir(parents=True, exist_ok=True)
    # Nobody sees half of the data: they get their name when all of them are there.
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=root))
    try:
        drawn = partial(picture_generator, space, seed)
        _write_vqav2(folder / "vqav2", num_images * VQAV2_IMAGES_PER_GQA_IMAGE, drawn)
        _write_gqa(folder / "gqa" / "data", num_images, drawn)
        _write_scienceqa(
            folder / "scienceqa", num_images * SCIENCEQA_QUESTIONS_PER_GQA_IMAGE, drawn
        )
        _write_json(folder / _PARAMETERS_FILE, parameters)  # last: it says that all is there
        folder.chmod(0o755)  # temporary folders are their owner's alone
        folder.replace(target)
    except OSError:
        if not _is_complete(target, parameters):  # else another process was faster
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _is_complete(folder: Path, parameters: dict[str, Any]) -> bool:
    path = folder / _PARAMETERS_FILE
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == parameters


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_vqav2(folder: Path, num_images: int, drawn: _Drawn) -> None:
    image_dir = folder / DEMO_SPLIT
    image_dir.mkdir(parents=True)
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        rng = drawn("vqav2", image_id)
        scene = sample_scene(rng)
        draw_scene(scene, rng).save(
            image_dir / f"COCO_{DEMO_SPLIT}_{image_id:012d}.jpg", **JPEG_OPTIONS
        )
        for number, question in enumerate(vqav2.ask_vqav2(scene, rng, VQAV2_QUESTIONS_PER_IMAGE)):
            question_id = image_id * 1000 + number  # as in COCO's question ids
            questions.append(vqav2.question_record(question, image_id, question_id))
            annotations.append(vqav2.annotation_record(question, image_id, question_id, rng))
    header = {
        "info": {
            "description": "Demo questions about colored shapes, in the format of VQA v2.0.",
            "url": "",
            "version": "2.0",
            "year": 2025,
            "contributor": "llava-evals",
            "date_created": "2025-01-01 00:00:00",
        },
        "license": {"url": "https://www.apache.org/licenses/LICENSE-2.0", "name": "Apache-2.0"},
        "data_type": "mscoco",
        "data_subtype": DEMO_SPLIT,
    }
    _write_json(
        folder / f"v2_OpenEnded_mscoco_{DEMO_SPLIT}_questions.json",
        {**header, "task_type": "Open-Ended", "questions": questions},
    )
    _write_json(
        folder / f"v2_mscoco_{DEMO_SPLIT}_annotations.json", {**header, "annotations": annotations}
    )


def _write_gqa(folder: Path, num_images: int, drawn: _Drawn) -> None:
    image_dir = folder / "images"
    image_dir.mkdir(parents=True)
    questions: dict[str, dict[str, Any]] = {}
    choices: dict[str, dict[str, list[str]]] = {}
    for number in range(1, num_images + 1):
        rng = drawn("gqa", number)
        scene = sample_scene(rng)
        image_id = f"d{number}"
        draw_scene(scene, rng).save(image_dir / f"{image_id}.jpg", **JPEG_OPTIONS)
        asked = gqa.ask_gqa(scene, rng, GQA_QUESTIONS_PER_IMAGE)
        by_id = {f"{number:06d}{i:02d}": question for i, question in enumerate(asked)}
        questions |= gqa.question_records(by_id, image_id)
        choices |= {i: gqa.choices_record(question, scene) for i, question in by_id.items()}
    _write_json(folder / f"{DEMO_SPLIT}_questions.json", questions)
    _write_json(folder / f"{DEMO_SPLIT}_choices.json", choices)


def _write_scienceqa(folder: Path, num_questions: int, drawn: _Drawn) -> None:
    (folder / "images" / DEMO_SPLIT).mkdir(parents=True)
    problems: dict[str, dict[str, Any]] = {}
    for number in range(1, num_questions + 1):
        rng = drawn("scienceqa", number)
        if rng.random() < _SHARE_WITH_PICTURE:
            scene = sample_scene(rng)
            image_dir = folder / "images" / DEMO_SPLIT / str(number)
            image_dir.mkdir()
            draw_scene(scene, rng).save(image_dir / "image.png")
            question = scienceqa.ask_about_picture(scene, rng)
        else:
            question = scienceqa.ask_without_picture(rng)
        problems[str(number)] = scienceqa.problem_record(question, DEMO_SPLIT, rng)
    _write_json(folder / "problems.json", problems)
    _write_json(folder / "pid_splits.json", {DEMO_SPLIT: list(problems)})
