"""The image files of a task: which are missing, and which have changed since they were asked about.

A file is the same as long as its state is, by the one rule that holds for weights, too
(`llava.content_hash.state_of`). Where it differs, as after copying a folder, or where an
older version recorded less than that, the images are decoded and compared with what the worker saw,
so that only those that changed are asked about again.
"""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from evals.reading.images import ImageFile, ImageSource
from evals.records import Cause, Failure, Sample
from llava.content_hash import hash_image, state_of
from runners.environment import num_cores
from runners.storage.answer_store import AnswerStore
from runners.storage.long_names import shorten_names

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 60.0

Stat = list[int] | None
"""The state of a file; None if it is not there, or the image is no file."""


class ImageFiles:
    """The images of a task's questions, as their files are when the run begins.

    They are looked at before anything is asked: a file that is replaced while it is being asked
    about differs from what is recorded, and is noticed by the next run.

    Attributes:
        missing: Failures of the questions with images that are not there, by key.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._num_samples = len(samples)
        self._stats: dict[str, Stat] = {}
        self.missing: dict[str, Failure] = {}
        self._places: dict[str, str] = {}  # for messages; answers are the same on any machine
        problems: dict[str, str] = {}
        for sample in samples:
            for image in sample.images:
                if image.key not in problems:
                    self._stats[image.key], problems[image.key] = _look_at(image)
                if problems[image.key] and sample.key not in self.missing:
                    if not image.refused:
                        self._places[sample.key] = f" It was looked for at {image.path}."
                    self.missing[sample.key] = Failure(
                        key=sample.key,
                        cause=Cause.IMAGE_MISSING,
                        message=shorten_names(problems[image.key]),
                    )

    def describe_missing(self, keys: Sequence[str]) -> str:
        """Returns a sentence about questions with images that are not there."""
        example = self.missing[keys[0]].message
        told = shorten_names(example + self._places.get(keys[0], ""))
        return (
            f"{len(keys):,} of {self._num_samples:,} questions have images that are not there "
            f"(for example: {told})"
        )

    def stats(self, sample: Sample) -> list[Stat]:
        """The state of each image's file of a question."""
        return [self._stats[image.key] for image in sample.images]

    def find_changed(self, samples: Iterable[Sample], answers: AnswerStore) -> set[str]:
        """Returns the keys of answered questions whose images are others now.

        What has only another state is recorded with it, so that it is compared once.
        Failures are left alone.
        """
        moved = [
            sample
            for sample in samples
            if answers.has_answer(sample.key)
            and sample.key not in self.missing
            and answers.image_stats(sample.key) != self.stats(sample)
        ]
        hashes = _hash_images({image.key: image for sample in moved for image in sample.images})
        changed = set()
        for sample in moved:
            if [hashes[image.key] for image in sample.images] == answers.image_hashes(sample.key):
                answers.update_image_stats(sample.key, self.stats(sample))
            else:
                changed.add(sample.key)
        if moved:
            level = logging.WARNING if changed else logging.INFO
            told = (
                "%d of the %d questions whose image files have changed show other pixels, and are "
            )
            logger.log(level, told + "asked again", len(changed), len(moved))
        return changed


def _look_at(image: ImageSource) -> tuple[Stat, str]:
    """The state of an image's file, and why it is not there; the latter is empty if it is."""
    if image.refused:
        return None, f"Image {image.key!r} is not opened: {image.refused}"
    if not isinstance(image, ImageFile):
        # Such an image lies in a data file, whose hash is part of the identity.
        return None, "" if image.exists() else f"Image {image.key} does not exist."
    try:
        found = image.path.stat()
    except FileNotFoundError:
        return None, f"Image {image.key} does not exist."
    except (OSError, ValueError) as error:  # out of reach, or no possible name
        reason = error.strerror if isinstance(error, OSError) else error  # without the name again
        return None, f"Image {image.key!r} cannot be there: {reason}."
    if not stat.S_ISREG(found.st_mode):
        return None, f"Image {image.key!r} is no regular file."
    return state_of(found), ""


def _hash_images(images: Mapping[str, ImageSource]) -> dict[str, str | None]:
    """The hash of each image as a worker would see it, None for what cannot be opened."""
    if not images:
        return {}
    logger.info(
        "images with another size or time now, or of which only these were recorded: %d; their "
        "pixels are compared once",
        len(images),
    )
    hashes: dict[str, str | None] = {}
    reported = time.monotonic()
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="images") as pool:
        for key, digest in zip(images, pool.map(_hash, images.values()), strict=True):
            hashes[key] = digest
            if time.monotonic() - reported >= _REPORT_EVERY_S:
                reported = time.monotonic()
                logger.info("%d of %d images compared", len(hashes), len(images))
    return hashes


def _hash(image: ImageSource) -> str | None:
    try:
        return hash_image(image.open())
    except OSError:  # asking about it will say why
        return None
