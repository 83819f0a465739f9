"""Looks at a benchmark's data: what is there, what is not, and what should not be so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from evals.benchmark import Benchmark
from evals.errors import DataError, MissingFileError
from evals.reading.files import find_optional
from evals.reading.images import ImageSource
from evals.reading.releases import Release
from evals.records import Prediction, Sample
from runners.options.task_spec import TaskSpec
from runners.storage.long_names import shorten_names

_SHOWN = 10
_NUM_THREADS = 8


class State(IntEnum):
    """How grave a finding is."""

    GOOD = 0
    NOTE = 1
    MISSING = 2
    WRONG = 3


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        state: How grave it is.
        text: What it is; lines after the first say more.
    """

    state: State
    text: str


def check_data(spec: TaskSpec, *, check_counts: bool, open_images: bool) -> Iterator[Finding]:
    """Returns what is found about the data of one benchmark.

    Args:
        spec: The benchmark.
        check_counts: Whether other numbers than the published ones are wrong.
        open_images: Whether each image is decoded, and not only looked for.
    """
    task, options = spec.build(), spec.options
    release = task.releases.get(task.split)
    samples: list[Sample] = []
    problem = _try("questions", lambda: samples.extend(task.samples()))
    problem = problem or _try("files", task.data_files)
    if problem is None:
        yield from _count(samples, release, check_counts=check_counts)
    needed = problem or _check_purpose(task, samples)
    yield needed
    data_dir = Path(str(options["data_dir"])) if "data_dir" in options else None
    if release is not None and data_dir is not None and options.get("source") != "hub":
        listed = _list_files(data_dir, release)
        if needed.state is not State.MISSING or listed.state is not State.GOOD:
            yield listed  # which names the published files, and no others that may be missing
    images = {image.key: image for sample in samples for image in sample.images}
    if images:
        yield from _check_images(
            list(images.values()), data_dir, release, task.without_images, open_images=open_images
        )


def _try(purpose: str, action: Callable[[], object]) -> Finding | None:
    """Tries what an evaluation would do; returns what is in its way."""
    try:
        action()
    except MissingFileError as error:
        return Finding(State.MISSING, f"{purpose}: {error}")
    except DataError as error:
        return Finding(State.WRONG, f"{purpose}: {error}")
    return None


def _count(
    samples: Sequence[Sample], release: Release | None, *, check_counts: bool
) -> Iterator[Finding]:
    num_images = len({image.key for sample in samples for image in sample.images})
    if release is None:
        text = f"{len(samples):,} questions, {num_images:,} images (no numbers are published)"
        yield Finding(State.GOOD, text)
        return
    for name, number, published in (
        ("questions", len(samples), release.num_questions),
        ("images", num_images, release.num_images),
    ):
        state, text = State.GOOD, f"{number:,} {name}"
        if published == number:
            text += ", as published"
        elif published is not None:
            state = State.WRONG if check_counts else State.NOTE
            text += f", but {published:,} are published"
            if name == "questions" and number in release.other_releases:
                text += f": {release.other_releases[number]}"
        yield Finding(state, text)


def _check_purpose(task: Benchmark, samples: Sequence[Sample]) -> Finding:
    """Tries what the files are for beside asking: scoring, judging or uploading."""
    action: Callable[[], object]
    if task.has_annotations:
        purpose, action = "scoring", lambda: _score_one(task, samples)
    elif task.grading is not None:
        purpose, action = "judging", lambda: task.judge_requests(_answer_first(samples))
    elif task.upload is not None:
        purpose, action = "upload", task.submission_ids
    else:
        return Finding(State.NOTE, f"scoring: {task.title} {task.lack}")
    good = Finding(State.GOOD, f"{purpose}: all files are there")
    return _try(purpose, action) or good


def _score_one(task: Benchmark, samples: Sequence[Sample]) -> None:
    """Reads all that scoring needs, and tries it on one answer, where no judge has to be asked."""
    task.aggregate(task.score({} if task.grading else _answer_first(samples)))


def _answer_first(samples: Sequence[Sample]) -> dict[str, Prediction]:
    return {
        sample.key: Prediction(
            key=sample.key,
            question_id=sample.question_id,
            prompt=sample.prompt,
            text=sample.target if isinstance(sample.target, str) else "",
        )
        for sample in samples[:1]
    }


def _list_files(data_dir: Path, release: Release) -> Finding:
    """Every file and folder that belongs to the benchmark; what is needed is found elsewhere."""
    absent = [
        f"{data_dir / name}: to be had from {origin}"
        for name, origin in release.files.items()
        if find_optional(data_dir / name) is None and not (data_dir / name).is_dir()
    ]
    if not absent:
        return Finding(State.GOOD, "files: all are there, the optional ones too")
    text = f"files: {len(absent)} of {len(release.files)} are not there"
    return Finding(State.NOTE, "\n".join([text, *absent]))


def _check_images(
    images: Sequence[ImageSource],
    data_dir: Path | None,
    release: Release | None,
    hint: str,
    *,
    open_images: bool,
) -> Iterator[Finding]:
    there: list[ImageSource] = []
    missing: list[ImageSource] = []
    for image in images:
        (there if image.exists() else missing).append(image)
    if missing:
        text = f"images: {len(missing):,} of {len(images):,} are missing"
        origins = sorted({_origin(image, data_dir, release) for image in missing} - {""})
        if origins:
            text += f", to be had from {', '.join(origins)}"
        text += f". {hint}" if hint else ""
        lines = [image.refused or str(image.path) for image in missing]
        yield Finding(State.MISSING, _list(text, lines))
    broken = _open_all(there) if open_images else []  # minutes for a large benchmark
    if broken:
        text = f"images: {len(broken):,} of {len(images):,} cannot be read"
        yield Finding(State.WRONG, _list(text, broken))
    if not missing and not broken:
        done = "are there and can be read" if open_images else "are there"
        yield Finding(State.GOOD, f"images: all {len(images):,} {done}")


def _origin(image: ImageSource, data_dir: Path | None, release: Release | None) -> str:
    """Where the folder that the image belongs to is to be had, empty if that is not known."""
    if data_dir is not None and release is not None:
        for name, origin in release.files.items():
            if image.path.is_relative_to(data_dir / name):
                return origin
    return ""


def _list(text: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return "\n".join([text, *map(shorten_names, lines[:_SHOWN]), *more])


def _open_all(images: Sequence[ImageSource]) -> list[str]:
    """What is wrong with images that cannot be decoded, in the order of the images."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:  # the decoders release the interpreter
        results = pool.map(_open_problem, images)
        bar = tqdm(results, total=len(images), desc="images", unit="image", disable=None)
        return [problem for problem in bar if problem]


def _open_problem(image: ImageSource) -> str:
    try:
        image.open().close()
    except OSError as error:
        return str(error)
    return ""
