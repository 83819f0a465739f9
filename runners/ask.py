"""Asks a checkpoint one question: `python -m runners.ask model=... image=... prompt=...`.

The answer goes to stdout and nothing else does: as it is written on a terminal, whole in a pipe.
How the question was put goes to stderr.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from evals.records import Cause, Failure, Sample
from llava.generation.request import GenerationConfig, Request
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.evaluation.ask_images import open_sources
from runners.logs import doing
from runners.options import program
from runners.options.ask import AskConfig
from runners.options.build import read_settings
from runners.options.engine import SequentialOptions
from runners.options.words import imply_checkpoint
from runners.workers.interface import from_engine

if TYPE_CHECKING:
    from runners.evaluation.checkpoint import Subject


def ask(config: DictConfig) -> int:
    """Answers one composed configuration and returns the exit code."""
    settings = read_settings(config, AskConfig)
    # with transformers, which no wrong option has to wait for
    from runners.evaluation.checkpoint import inspect_subject

    try:
        generation = GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            num_beams=settings.num_beams,
            seed=settings.seed,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    images = open_sources(settings.image)
    subject = inspect_subject(settings)
    sample = Sample(
        key="ask", question_id="ask", text=settings.prompt, prompt=settings.prompt, images=images
    )
    request = subject.build_renderer().build_request(sample, generation)
    if isinstance(request, Failure):
        if request.cause != Cause.IMAGE_COUNT:
            raise ConfigError(request.message)
        raise ConfigError(
            f"{request.message} Write one `<image>` for each image into the prompt, or none at all."
        )
    if images and not subject.checkpoint.is_multimodal:
        raise ConfigError(
            f"{subject.name} is a language model without a vision tower. {subject.vision_remedy}"
        )
    print(f"conversation {subject.template}: {subject.template_reason}", file=sys.stderr)
    return _answer(settings, subject, request)


def _answer(settings: AskConfig, subject: Subject, request: Request) -> int:
    # with torch, which no wrong option has to wait for
    from transformers import TextStreamer

    from runners.workers.loading import default_device, load_sequential

    device = settings.device or default_device()
    dtype = subject.dtype(settings.dtype) or ("float32" if device == "cpu" else "float16")
    order = subject.load_order(settings, dtype=dtype, engine=SequentialOptions())
    with doing("loading the model"):
        engine = load_sequential(order, device)

    class Shown(TextStreamer):
        def put(self, value: Any) -> None:
            if self.next_tokens_are_prompt or int(value[-1]) not in engine.stops:
                super().put(value)

    streams = sys.stdout.isatty() and settings.num_beams == 1
    streamer = Shown(engine.tokenizer, skip_prompt=True, skip_special_tokens=True)
    result = from_engine(engine.answer(request, streamer=streamer if streams else None))
    if isinstance(result, Failure):
        print(f"No answer ({result.cause}): {result.message}", file=sys.stderr)
        return INCOMPLETE
    if not streams:
        print(result.text)
    if result.finish_reason != "stop":
        print(f"(cut: {result.finish_reason}, {len(result.token_ids)} tokens)", file=sys.stderr)
    return COMPLETE


main = partial(program.main, "ask", ask, imply_checkpoint)

if __name__ == "__main__":
    main()
