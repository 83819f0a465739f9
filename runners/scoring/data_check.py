"""Looks at a benchmark's data: what is there, what is not, and what should not be so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        state: How grave it is.
        text: What it is; lines after the first say more.
    """

    state: State
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What was found about one benchmark.

    Attributes:
        title: Task and split.
        findings: In the order in which they were made.
    """

    title: str
    findings: tuple[Finding, ...]


def check_data(spec: TaskSpec, *, check_counts: bool, open_images: bool) -> DataCheck:
    """Returns what is found about the data of one benchmark.

    Args:
        spec: The benchmark.
        check_counts: Whether other numbers than the published ones are wrong.
        open_images: Whether each image is decoded, and not only looked for.
    """
    task = spec.build()
    release = task.releases.get(task.split)
    findings: list[Finding] = []
    samples: list[Sample] = []
    failed = _try(lambda: samples.extend(task.samples()), "questions")
    if failed:
        findings.append(failed)
    else:
        findings += _count(samples, release, check_counts=check_counts)
        findings += _check_purposes(task, samples)
    options = spec.options
    data_dir = Path(str(options["data_dir"])) if "data_dir" in options else None
    if release is not None and data_dir is not None and options.get("source") != "hub":
        findings += _list_files(data_dir, release)
    findings += _check_images(samples, data_dir, release, open_images=open_images)
    return DataCheck(title=f"{task.name} {task.split}", findings=tuple(findings))


def _try(action: Callable[[], object], purpose: str) -> Finding | None:
    """Tries what an evaluation would do; returns what is in its way."""
    try:
        action()
    except MissingFileError as error:
        return Finding(state=State.MISSING, text=f"{purpose}: {error}")
    except DataError as error:
        return Finding(state=State.WRONG, text=f"{purpose}: {error}")
    return None


def _count(
    samples: Sequence[Sample], release: Release | None, *, check_counts: bool
) -> list[Finding]:
    num_images = len({image.key for sample in samples for image in sample.images})
    if release is None:
        text = f"{len(samples):,} questions, {num_images:,} images (no numbers are published)"
        return [Finding(state=State.GOOD, text=text)]
    findings = []
    for name, number, published in (
        ("questions", len(samples), release.num_questions),
        ("images", num_images, release.num_images),
    ):
        if published is None:
            findings.append(Finding(state=State.GOOD, text=f"{number:,} {name}"))
        elif number == published:
            findings.append(Finding(state=State.GOOD, text=f"{number:,} {name}, as published"))
        else:
            text = f"{number:,} {name}, but {published:,} are published"
            if name == "questions" and number in release.other_releases:
                text += f": {release.other_releases[number]}"
            state = State.WRONG if check_counts else State.NOTE
            findings.append(Finding(state=state, text=text))
    return findings


def _check_purposes(task: Benchmark, samples: Sequence[Sample]) -> list[Finding]:
    """Tries what the files are for beside asking: scoring, judging, uploading."""
    findings = []
    attempts: list[tuple[str, Callable[[], object]]] = []
    if task.has_annotations:
        attempts.append(("scoring", lambda: task.score({})))
    elif task.grading is not None:
        attempts.append(("judging", lambda: task.judge_requests(_answer_first(samples))))
    elif task.upload is not None:
        attempts.append(("upload", task.submission_ids))
    else:
        text = "scoring: this split has no annotations; its questions can only be answered"
        findings.append(Finding(state=State.NOTE, text=text))
    for purpose, action in attempts:
        good = Finding(state=State.GOOD, text=f"{purpose}: all files are there")
        findings.append(_try(action, purpose) or good)
    return findings


def _answer_first(samples: Sequence[Sample]) -> dict[str, Prediction]:
    return {
        sample.key: Prediction(
            key=sample.key, question_id=sample.question_id, prompt=sample.prompt, text=""
        )
        for sample in samples[:1]
    }


def _list_files(data_dir: Path, release: Release) -> list[Finding]:
    """Every file and folder that belongs to the benchmark; what is needed is found elsewhere."""
    absent = [
        f"{data_dir / name}: to be had from {origin}"
        for name, origin in release.files.items()
        if find_optional(data_dir / name) is None and not (data_dir / name).is_dir()
    ]
    if not absent:
        return [Finding(state=State.GOOD, text="files: all are there, the optional ones too")]
    text = f"files: {len(absent)} of {len(release.files)} are not there"
    return [Finding(state=State.NOTE, text="\n".join([text, *absent]))]


def _check_images(
    samples: Iterable[Sample], data_dir: Path | None, release: Release | None, *, open_images: bool
) -> list[Finding]:
    images = {image.key: image for sample in samples for image in sample.images}
    if not images:
        return []
    missing = [image for image in images.values() if not image.exists()]
    findings = []
    if missing:
        text = f"images: {len(missing):,} of {len(images):,} are missing"
        origins = sorted({_origin(image, data_dir, release) for image in missing} - {""})
        if origins:
            text += f", to be had from {', '.join(origins)}"
        shown = [image.refused or str(image.path) for image in missing]
        findings.append(Finding(state=State.MISSING, text=_list(text, shown)))
    absent = {image.key for image in missing}
    there = [image for key, image in images.items() if key not in absent]
    if open_images and there:
        broken = _open_all(there)
        if broken:
            text = f"images: {len(broken):,} of {len(images):,} cannot be read"
            findings.append(Finding(state=State.WRONG, text=_list(text, broken)))
    if not findings:
        done = "are there and can be read" if open_images else "are there"
        findings.append(Finding(state=State.GOOD, text=f"images: all {len(images):,} {done}"))
    return findings


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
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        results = pool.map(_open_problem, images)
        bar = tqdm(results, total=len(images), desc="images", unit="image", disable=None)
        return [problem for problem in bar if problem]


def _open_problem(image: ImageSource) -> str:
    try:
        image.open().close()
    except OSError as error:
        return str(error)
    return ""
