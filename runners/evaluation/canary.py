"""A few questions with and without their image, before hours are spent on a model that is broken.

A checkpoint whose projector was not loaded, or whose adapter sits on the wrong base, answers
everything, fluently and wrongly. What shows it at once: the image changes nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from evals.records import Failure
from llava.generation.request import GenerationConfig, ImageProbe
from runners.errors import CanaryError
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.resuming import TaskRun
from runners.workers.interface import Workers

logger = logging.getLogger(__name__)

MIN_QUESTIONS = 8
"""Shorter runs show by themselves what is wrong."""

_NUM_PROBED = 3
_NO_CHANGE = 1e-6


def check_canary(workers: Workers, renderer: PromptRenderer, task_runs: Sequence[TaskRun]) -> None:
    """Asks pending questions about their images and about blank ones, and judges the answers.

    One that shows that the model sees is enough, a few are tried at most. They are from the whole
    of those about images, with greedy decoding; nothing is asked where fewer than `MIN_QUESTIONS`
    are left. The workers have their model.

    Raises:
        CanaryError: images change nothing at all, or logits are not numbers.
    """
    samples = [s for task_run in task_runs for s in task_run.pending() if s.images]
    if len(samples) < MIN_QUESTIONS:
        return
    step = len(samples) // _NUM_PROBED
    probes: list[ImageProbe] = []
    failures: list[Failure] = []
    for sample in samples[::step][:_NUM_PROBED]:
        # how much is written the probe says itself; one token is right for choices, too
        request = renderer.build_request(sample, GenerationConfig(max_new_tokens=1))
        [found] = [request] if isinstance(request, Failure) else workers.probe([request])
        if isinstance(found, Failure):
            failures.append(found)
            continue
        if is_healthy(found):
            return
        probes.append(found)
    if probes:
        judge(probes)
        return
    logger.warning(
        "canary: whether the model sees is not known, as no question that was tried has an answer "
        "(%s): %s",
        ", ".join(dict.fromkeys(str(failure.cause) for failure in failures)),
        failures[0].message,
    )


def is_healthy(probe: ImageProbe) -> bool:
    """Whether the image clearly makes a difference to an answer that looks like one."""
    return (
        probe.is_finite
        and probe.logit_change > _NO_CHANGE
        and probe.text != probe.blank_text
        and not is_degenerate(probe.text)
    )


def judge(probes: Sequence[ImageProbe]) -> None:
    """Says what a few probes show.

    Raises:
        CanaryError: images change nothing at all, or logits are not numbers.
    """
    if not all(probe.is_finite for probe in probes):
        raise CanaryError(
            "The logits of the first token are NaN or infinite, so every answer would be noise. "
            "Likely causes: a dtype too narrow for the model (try dtype=bfloat16 or float32), "
            "damaged weights, or a wrong base model. canary=off asks all the same."
        )
    if all(probe.logit_change <= _NO_CHANGE for probe in probes):
        raise CanaryError(
            f"The model does not see: for {len(probes)} questions a blank image in place of the "
            "real one changes no logit of the answer at all. Likely causes: the projector was not "
            "loaded or is all zero, the vision tower is another than in training, or the base "
            "model is wrong (model.base). canary=off asks all the same."
        )
    if all(probe.text == probe.blank_text for probe in probes):
        logger.warning(
            "canary: %d questions are answered about a blank image as about their own (%r). Is "
            "this the right conversation template and base model?",
            len(probes),
            probes[0].text,
        )
    degenerate = [probe.text for probe in probes if is_degenerate(probe.text)]
    if len(degenerate) == len(probes):
        logger.warning(
            "canary: answers look degenerate (%r). Is this the right conversation template?",
            degenerate[0],
        )


def is_degenerate(text: str) -> bool:
    """Whether a text is empty, or one word or sign again and again.

    >>> [is_degenerate(text) for text in ("", "the the the the", "!!!!!!", "yes", "no no")]
    [True, True, True, False, False]
    """
    words = text.split()
    repeated = len(words) >= 4 and len(set(words)) == 1
    return not words or repeated or re.fullmatch(r"(\W)\1{3,}", text) is not None
