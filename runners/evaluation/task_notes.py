"""What is said about a task's folder and images when it is opened."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from pathlib import Path

from runners.evaluation.images import ImageFiles
from runners.storage.answers import PREDICTIONS_FILE, TRACE_FILE, AnswerStore
from runners.storage.files import SPOILED_SUFFIX

logger = logging.getLogger(__name__)


def report_missing_images(name: str, images: ImageFiles, answered: AbstractSet[str]) -> None:
    """Says what becomes of questions without their images: an answer that is stored stays.

    Args:
        name: The task's.
        images: Which of them are missing.
        answered: Keys of questions with a stored answer.
    """
    failing = [key for key in images.missing if key not in answered]
    staying = [key for key in images.missing if key in answered]
    if failing:
        logger.warning("%s: %s They count as failed.", name, images.describe_missing(failing))
    if staying:
        logger.info("%s: %s Their stored answers stay.", name, images.describe_missing(staying))


def report_repairs(folder: Path, store: AnswerStore) -> None:
    """Says what was wrong with the files of an earlier session.

    Args:
        folder: The task's.
        store: Which has just read them.
    """
    path = folder / PREDICTIONS_FILE
    if store.num_spoiled:
        logger.warning(
            "%s: %d lines here or in %s were no answers of this run and were moved to files named "
            "*%s",
            path,
            store.num_spoiled,
            TRACE_FILE,
            SPOILED_SUFFIX,
        )
    if store.num_torn or store.num_unconfirmed:
        logger.warning(
            "%s: an interrupted run left %d unfinished lines and %d answers without their trace; "
            "these questions are asked again",
            path,
            store.num_torn,
            store.num_unconfirmed,
        )
