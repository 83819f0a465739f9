"""The reference loop, one request at a time through `model.generate`: every engine's oracle."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from transformers import LogitsProcessorList

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.budget import has_lost_device, is_out_of_memory
from llava.generation.calibration import Briefing
from llava.generation.neartie import top_two_among
from llava.generation.preprocess import BlankImage, PreparedImage, lay_out, prepare_image
from llava.generation.request import (
    Completion,
    EngineReport,
    FailureCause,
    GenerationConfig,
    ImageProbe,
    Request,
    RequestError,
    RequestFailure,
)
from llava.generation.sampling import SeededSampling
from llava.model.llava_arch import EncodedImages, LlavaMetaForCausalLM
from llava.template_choice import stop_tokens

logger = logging.getLogger(__name__)

R = TypeVar("R", Completion, ImageProbe)
Encoded = dict[tuple[str, ...], EncodedImages]

PROBE_TOKENS = 8
"""The length of the answers by which `probe` compares images."""


class SequentialEngine:
    """Answers requests one by one, asking for the logits of the last position only.

    Args:
        tokenizer: Decodes answers.
        model: A LLaVA or plain language model in evaluation mode.
        image_processor: Of the model's vision tower; None without one.
        context_len: As `load_pretrained_model` gives it. A config with `tokenizer_model_max_length`
            (the length at which the reference cuts prompts) has its own limit.
        template: The conversation template, whose end of a turn ends an answer too; None for
            prompts without one.
    """

    max_tokens: int | None = None
    """There are no packs."""

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        image_processor: Any,
        context_len: int,
        template: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.image_processor = image_processor
        max_length = getattr(model.config, "tokenizer_model_max_length", None)
        self.max_prompt_tokens: int = max_length or context_len
        self.max_total_tokens: int = max(context_len, self.max_prompt_tokens)
        self._turn_ends = stop_tokens(template, tokenizer) if template else []
        self._growing = [m for m in model.modules() if getattr(m, "rope_type", None) == "dynamic"]
        self._busy_s = 0.0

    @property
    def stops(self) -> frozenset[int]:
        """Tokens that end an answer."""
        stop = self.model.generation_config.eos_token_id
        return frozenset([*([stop] if isinstance(stop, int) else stop or []), *self._turn_ends])

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """Yields one completion or failure a request, in the order of the requests."""
        for request in requests:
            started = time.perf_counter()
            result = self.answer(request)
            self._busy_s += time.perf_counter() - started
            yield result

    def prepare(self, requests: Sequence[Request]) -> None:
        """Does nothing: the reference's loop opens an image when its question is asked."""

    def report(self) -> EngineReport:
        """Returns the time that answering took; there is nothing else to tell."""
        return EngineReport(busy_s=self._busy_s)

    def brief(self, briefing: Briefing) -> None:
        """Does nothing: no answer of this engine has to be computed again."""

    def answer(
        self,
        request: Request,
        streamer: Any = None,
        images: Sequence[PreparedImage] | None = None,
        encoded: Encoded | None = None,
    ) -> Completion | RequestFailure:
        """Returns the completion of a request, or whatever it raised as its failure.

        Args:
            request: The question.
            streamer: Gets the tokens as they come, as transformers' `generate` passes them on.
            images: Of the request, if they have been prepared already.
            encoded: What images of earlier requests were encoded to, by their keys; gets what is
                encoded here.

        Raises:
            AcceleratorError: the device is lost to this process, and every other request with it.
        """
        return _isolate(request.key, lambda: self.complete(request, streamer, images, encoded))

    @torch.inference_mode()
    def complete(
        self,
        request: Request,
        streamer: Any = None,
        images: Sequence[PreparedImage] | None = None,
        encoded: Encoded | None = None,
    ) -> Completion:
        """Returns the answer to one request; see `answer`.

        Raises:
            RequestError: an image is missing or unreadable, prompt and images do not fit into the
                context, or a logit is NaN or infinite.
        """
        start = time.perf_counter()
        request = lay_out(request, self.model.config)
        if images is None:
            images = self._prepare(request)
        output, tokens = self._generate(request, images, streamer, encoded)
        steps = output.scores if request.generation.do_sample else output.logits
        margins: list[float] = []  # of beams, with a row each a step, they are not measured
        if request.generation.num_beams == 1:
            found, tops, margins = top_two_among(torch.cat(steps), [request.choices] * len(steps))
            tokens = found if request.choices else tokens
        else:
            tops = torch.cat([step.amax(-1) for step in steps]).tolist()
        if not all(map(math.isfinite, tops)):
            raise RequestError(
                FailureCause.NOT_FINITE,
                "The model computes NaN or infinity. Try dtype=bfloat16 or dtype=float32.",
            )
        length = next((i + 1 for i, token in enumerate(tokens) if token in self.stops), len(tokens))
        latency_s = time.perf_counter() - start
        return self.completion(request, tokens[:length], images, margins[:length], latency_s)

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        """Returns what a request's images do to the beginning of its greedy answer; see `answer`.

        Raises:
            AcceleratorError: the device is lost.
        """
        return _isolate(request.key, lambda: self._probe(request))

    @torch.inference_mode()
    def _probe(self, request: Request) -> ImageProbe:
        blank = replace(request, images=tuple(map(BlankImage, request.images)))
        (logits, text), (blank_logits, blank_text) = map(self._begin, (request, blank))
        return ImageProbe(
            key=request.key,
            logit_change=float((logits - blank_logits).abs().max()),
            is_finite=bool(torch.isfinite(logits).all() and torch.isfinite(blank_logits).all()),
            text=text,
            blank_text=blank_text,
        )

    def _begin(self, request: Request) -> tuple[torch.Tensor, str]:
        """(V,) float32 logits of the first new token, and the first words of the greedy answer."""
        generation = GenerationConfig(max_new_tokens=PROBE_TOKENS)
        greedy = replace(lay_out(request, self.model.config), generation=generation, choices=())
        output, tokens = self._generate(greedy, self._prepare(greedy))
        return output.logits[0][0].float(), self._text(greedy, tokens)

    def _prepare(self, request: Request) -> list[PreparedImage]:
        parts = self.image_processor, self.model.config
        return [prepare_image(image, *parts) for image in request.images]

    def completion(
        self,
        request: Request,
        tokens: Sequence[int],
        images: Sequence[PreparedImage],
        margins: Sequence[float],
        latency_s: float,
    ) -> Completion:
        """Returns the record of an answer.

        Its `tokens` are the new ones, the end token included if it was reached; `margins` are the
        distances of the two largest scores at each step, none if they are not measured.
        """
        return Completion(
            key=request.key,
            token_ids=tuple(tokens),
            text=self._text(request, tokens),
            finish_reason=self._finish_reason(request, tokens),
            num_prompt_tokens=self.num_tokens(request, images),
            min_margin=min(margins) if margins else None,
            margins=tuple(margins),
            latency_s=latency_s,
            image_sha256=tuple(image.sha256 for image in images),
        )

    def _text(self, request: Request, tokens: Sequence[int]) -> str:
        """The text of an answer, without the token that ended it."""
        is_ended = self._finish_reason(request, tokens) == "stop"
        kept = tokens[: len(tokens) - is_ended]
        return self.tokenizer.decode(kept, skip_special_tokens=True).strip()

    def _finish_reason(self, request: Request, tokens: Sequence[int]) -> str:
        if request.choices:
            return "choice"
        if tokens and tokens[-1] in self.stops:
            return "stop"
        return "context" if len(tokens) < request.generation.max_new_tokens else "length"

    def num_tokens(self, request: Request, images: Sequence[PreparedImage]) -> int:
        """Returns the length of a prompt with its images."""
        embeddings = (self.model.num_image_tokens(i.pixel_values, i.size) for i in images)
        return len(request.prompt_ids) - len(images) + int(sum(embeddings))

    def room(self, num_prompt_tokens: int) -> int:
        """Returns how many new tokens fit behind a prompt.

        Raises:
            RequestError: none do, or the prompt would have been cut.
        """
        room = self.max_total_tokens - num_prompt_tokens
        if num_prompt_tokens > self.max_prompt_tokens or room < 1:
            raise RequestError(
                FailureCause.PROMPT_TOO_LONG,
                f"{num_prompt_tokens} tokens of prompt and images do not fit into a context of "
                f"{self.max_prompt_tokens}",
            )
        return room

    def _generate(
        self,
        request: Request,
        images: Sequence[PreparedImage],
        streamer: Any = None,
        encoded: Encoded | None = None,
    ) -> tuple[Any, list[int]]:
        """What `generate` gives for a request, and the new tokens in it."""
        ids = torch.from_numpy(request.prompt_ids).long()
        num_placeholders = int((ids == IMAGE_TOKEN_INDEX).sum())
        if num_placeholders != len(request.images):
            raise ValueError(
                f"The prompt has {num_placeholders} image placeholders, but {len(request.images)} "
                "images were given. Give one image for each."
            )
        generation = request.generation
        options: dict[str, Any] = {}
        if images:
            options["images"] = self._encode(request, images, {} if encoded is None else encoded)
        if self._turn_ends:
            options["eos_token_id"] = sorted(self.stops)
        samplings = [SeededSampling(request.key, generation)] if generation.do_sample else []
        room = self.room(self.num_tokens(request, images))
        for rotary in self._growing:  # as if nothing longer had been asked before
            rotary.register_buffer("inv_freq", rotary.original_inv_freq, persistent=False)
            rotary.max_seq_len_cached = rotary.original_max_seq_len
        output = self.model.generate(
            ids[None].to(self.model.device),
            **options,
            do_sample=False,
            num_beams=generation.num_beams,
            max_new_tokens=min(generation.max_new_tokens, room),
            logits_processor=LogitsProcessorList(samplings),
            streamer=streamer,
            return_dict_in_generate=True,
            output_logits=not generation.do_sample,
            output_scores=generation.do_sample,
        )
        tokens: list[int] = output.sequences[0].tolist()
        # a plain language model repeats the prompt
        is_plain = not isinstance(self.model, LlavaMetaForCausalLM)
        return output, tokens[len(ids) :] if is_plain else tokens

    def _encode(
        self, request: Request, images: Sequence[PreparedImage], encoded: Encoded
    ) -> EncodedImages:
        """The features of a request's images, encoded together unless that has been done."""
        keys = tuple(image.key for image in request.images)
        if keys not in encoded:
            pixel_values = [
                image.pixel_values.to(device=self.model.device, dtype=self.model.dtype)
                for image in images
            ]
            same = len({values.shape for values in pixel_values}) == 1
            features = self.model.image_features(
                torch.stack(pixel_values) if same else pixel_values, [i.size for i in images]
            )
            encoded[keys] = EncodedImages(features)
        return encoded[keys]


def _isolate(key: str, compute: Callable[[], R]) -> R | RequestFailure:
    """What is computed for the request with this key, or whatever that raised as its failure."""
    try:
        return compute()
    except RequestError as error:
        return error.failure(key)
    except Exception as error:
        if has_lost_device(error):
            raise
        cause, message = FailureCause.ERROR, f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            cause, message = FailureCause.OUT_OF_MEMORY, str(error) or "not enough memory"
        else:
            logger.exception("request %s failed", key)
    return RequestFailure(key=key, cause=cause, message=message)
