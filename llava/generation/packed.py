"""The packed engine: each image once, all its questions at once, with the sequential answers."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.budget import (
    CPU_PASS_TOKENS,
    MIN_TOKENS,
    estimate_max_tokens,
    has_lost_device,
    is_out_of_memory,
)
from llava.generation.calibration import MAX_EXPECTED_FLIPS, Briefing
from llava.generation.decoding import PackDecoder, Question
from llava.generation.meter import PackMeter, Shapes
from llava.generation.neartie import near_ties_of
from llava.generation.plan import Pack, halve, plan_packs, split_to_fit, with_image_tokens, without
from llava.generation.preprocess import PreparedImage, lay_out, prepare_image
from llava.generation.request import (
    Completion,
    EngineReport,
    FailureCause,
    ImageProbe,
    Request,
    RequestError,
    RequestFailure,
)
from llava.generation.sampling import SeededSampling
from llava.generation.sequential import SequentialEngine
from llava.model.families import MODEL_TYPES
from llava.model.llava_arch import EncodedImages
from llava.model.multimodal_encoder.vision_tower import find_tower
from llava.tiling import read_layout

logger = logging.getLogger(__name__)

PACKS_AHEAD = 2
"""How many packs' images are prepared before their turn."""

_NEUTRAL: Mapping[str, Any] = {
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"), 1),
    **dict.fromkeys(("no_repeat_ngram_size", "min_length", "min_new_tokens"), 0),
    **{name: [] for name in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")},
    **dict.fromkeys(("remove_invalid_values", "token_healing"), False),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "stop_strings"), None),
    **dict.fromkeys(("exponential_decay_length_penalty", "max_time", "sequence_bias"), None),
    **dict.fromkeys(("dola_layers", "watermarking_config"), None),
}
"""Options in a checkpoint's generation config that decide which tokens `generate` takes, beside
logits and what a request says itself, with the value that, like None, changes nothing. With any of
them at another one requests go one by one."""

_GROWING_ROPE = ("dynamic", "longrope")
"""Rotary embeddings of all rows of a pass that depend on the longest of them."""

Result = Completion | RequestFailure
Images = Mapping[str, "Future[PreparedImage]"]
Prepared = dict[str, PreparedImage]


@dataclass(slots=True)
class _Begun:
    """Requests that are planned; the images of the packs ahead are being prepared."""

    requests: Sequence[Request]
    alone: Sequence[Request]
    packs: deque[Pack]
    ahead: deque[tuple[Pack, Images]] = field(default_factory=deque)


class PackedEngine:
    """Answers requests in packs, and those that packing could change once more, one by one.

    Beams go one by one, and all questions to a model for which `why_alone` has a reason, which is
    logged. Tokenizer, model, image processor, context length and template are those of
    `SequentialEngine`.

    Args:
        max_tokens: Cache slots of a pack; None for what the device's memory allows.
        max_rows: Rows of a pack, however short they are.
        replay: Which answers are computed again, alone: `near_ties`, `all` or `off`.
        near_tie_threshold: Distance of the two largest logits under which a token counts as nearly
            tied; None for the rule of `NearTies`.
        max_expected_flips: So many answers of a run may be expected to stay changed at most.
        num_preprocess_threads: Threads that open and prepare images; None for 2 on a CPU, which
            has a model to compute, and up to 8 of this worker's threads beside a GPU, which waits.
    """

    def __init__(  # noqa: PLR0913 - four parts and the options of one engine
        self,
        tokenizer: Any,
        model: Any,
        image_processor: Any,
        context_len: int,
        template: str | None = None,
        *,
        max_tokens: int | None = None,
        max_rows: int = 64,
        replay: str = "near_ties",
        near_tie_threshold: float | None = None,
        max_expected_flips: float = MAX_EXPECTED_FLIPS,
        num_preprocess_threads: int | None = None,
    ) -> None:
        self.sequential = SequentialEngine(tokenizer, model, image_processor, context_len, template)
        self.near_ties = near_ties_of(
            model,
            replay=replay,
            threshold=near_tie_threshold,
            max_expected_flips=max_expected_flips,
        )
        self.stats = EngineReport()
        self._shapes: Shapes = set()
        self._model = model
        self._image_processor = image_processor
        self.max_tokens = max_tokens or estimate_max_tokens(model)
        self._max_rows = max_rows
        self._max_pass_tokens = CPU_PASS_TOKENS if model.device.type == "cpu" else None
        usual_threads = 2 if model.device.type == "cpu" else min(8, max(2, torch.get_num_threads()))
        self._threads = ThreadPoolExecutor(num_preprocess_threads or usual_threads, "images")
        self._begun: _Begun | None = None
        # images without others beside them, for the pack's answers that are computed again alone
        self._encoded_alone: dict[tuple[str, ...], EncodedImages] = {}
        why = why_alone(model)
        if why:
            logger.warning("questions are answered one by one, which is slower: %s", why)
        self._packs_model = not why

    def run(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yields one completion or failure a request, pack by pack."""
        results = self._results(requests)
        while True:
            started, waited_s = time.perf_counter(), self.stats.waited_s
            result = next(results, None)
            waited_s = self.stats.waited_s - waited_s
            self.stats.busy_s += time.perf_counter() - started - waited_s
            if result is None:
                return
            yield result

    def report(self) -> EngineReport:
        """Returns what this engine has done and measured so far."""
        decides = self.near_ties.replay == "near_ties"
        threshold = self.near_ties.threshold if decides else None
        if threshold == math.inf:  # every answer is computed again
            threshold = None
        return replace(self.stats, calibration=self.near_ties.calibration, threshold=threshold)

    def brief(self, briefing: Briefing) -> None:
        """Decides near ties from now on for this run; see `NearTies.brief`."""
        self.near_ties.brief(briefing)

    def prepare(self, requests: Sequence[Request]) -> None:
        """Begins to open images of what will be run next, while something else is computed.

        May be called from another thread.
        """
        self._begun = self._begin(requests)

    def _results(self, requests: Sequence[Request]) -> Iterator[Result]:
        begun, self._begun = self._begun, None
        if begun is None or begun.requests is not requests:
            begun = self._begin(requests)
        while begun.ahead:
            pack, images = begun.ahead.popleft()
            self._open_next(begun)
            yield from self._answer(pack, images)
        yield from self.sequential.run(begun.alone)

    def _begin(self, requests: Sequence[Request]) -> _Begun:
        laid_out = [lay_out(request, self._model.config) for request in requests]
        alone = [request for request in laid_out if not self._can_pack(request)]
        packs = plan_packs(
            [request for request in laid_out if self._can_pack(request)],
            max_tokens=self.max_tokens,
            max_rows=self._max_rows,
            num_image_tokens=self._usual_image_tokens(),
            width=self._model.config.hidden_size,
        )
        begun = _Begun(requests=requests, alone=alone, packs=deque(packs))
        for _ in range(PACKS_AHEAD):
            self._open_next(begun)
        return begun

    def _open_next(self, begun: _Begun) -> None:
        """Starts preparing each distinct image of the next pack, if there is one."""
        if begun.packs:
            pack = begun.packs.popleft()
            sources = {image.key: image for request in pack.requests for image in request.images}
            parts = self._image_processor, self._model.config
            pin = self._model.device.type == "cuda"
            images = {
                key: self._threads.submit(prepare_image, source, *parts, pin=pin)
                for key, source in sources.items()
            }
            begun.ahead.append((pack, images))

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        """See `SequentialEngine.probe`."""
        return self.sequential.probe(request)

    def _can_pack(self, request: Request) -> bool:
        num_places = int((request.prompt_ids == IMAGE_TOKEN_INDEX).sum())
        return (
            self._packs_model
            and request.generation.num_beams == 1
            and num_places == len(request.images)
            and len(request.prompt_ids) > 0
        )

    def _usual_image_tokens(self) -> int:
        """Embeddings of an image in the largest layout: planning is memory, not truth."""
        tower, config = find_tower(self._model), self._model.config
        if tower is None:
            return 0
        return tower.num_patches * read_layout(vars(config)).num_read(tower.image_size)

    def _answer(self, pack: Pack, images: Images) -> Iterator[Result]:
        """Answers one pack; what cannot be answered becomes a failure of its question alone."""
        started = time.perf_counter()
        broken = {key: error for key, future in images.items() if (error := future.exception())}
        prepared = {key: each.result() for key, each in images.items() if key not in broken}
        self.stats.waited_s += time.perf_counter() - started
        outside = [
            result
            for request in pack.requests
            if (result := self._answer_outside(request, prepared, broken)) is not None
        ]
        yield from outside
        rest = without(pack, {result.key for result in outside})
        if rest is not None:
            rest = with_image_tokens(
                rest, lambda each: self._num_tokens(each, prepared) - len(each.prompt_ids)
            )
            for part in split_to_fit(rest, self.max_tokens):
                yield from self._answer_prepared(part, prepared)

    def _answer_outside(
        self, request: Request, prepared: Prepared, broken: Mapping[str, BaseException]
    ) -> Result | None:
        """The result of a question that cannot go through the model in a pack; None if it can."""
        error = next((broken[i.key] for i in request.images if i.key in broken), None)
        if isinstance(error, RequestError):
            return error.failure(request.key)
        if error is not None:  # memory that was short may do for one image, a defect is logged
            return self.sequential.answer(request)
        try:
            self.sequential.room(self._num_tokens(request, prepared))
        except RequestError as too_long:
            return too_long.failure(request.key)
        except (RuntimeError, ValueError, ArithmeticError):  # the other engine logs what is wrong
            return self.sequential.answer(request)
        return None

    def _num_tokens(self, request: Request, prepared: Prepared) -> int:
        return self.sequential.num_tokens(request, [prepared[i.key] for i in request.images])

    def _answer_prepared(self, pack: Pack, prepared: Prepared) -> Iterator[Result]:
        started = time.perf_counter()
        questions, is_too_large = None, False
        try:
            questions = self._decode(pack, prepared)
        except Exception as error:
            if has_lost_device(error):
                raise
            is_too_large = is_out_of_memory(error)
            if not is_too_large:
                logger.exception("a pack of %d questions failed", len(pack.requests))
        # outside the handler, which would keep the pack's tensors alive
        if questions is None:
            halves = self._halves(pack) if is_too_large else []
            for half in halves:
                yield from self._answer_prepared(half, prepared)
            if not halves:
                yield from self.sequential.run(pack.requests)
            return
        latency_s = (time.perf_counter() - started) / len(questions)
        for question in questions:
            yield self._result(question, prepared, latency_s)

    def _halves(self, pack: Pack) -> list[Pack]:
        """A pack that did not fit in halves, after which others are smaller; [] of one question."""
        torch.cuda.empty_cache()
        halves = halve(pack)
        if halves:
            self.stats.num_halvings += 1
            self.max_tokens = max(MIN_TOKENS, min(self.max_tokens, pack.cost // 2))
            logger.warning("a pack of %d questions did not fit; halved", len(pack.requests))
        return halves

    @torch.inference_mode()
    def _decode(self, pack: Pack, prepared: Prepared) -> list[Question]:
        meter = PackMeter(self._model.device)
        features = self._encode(pack, prepared)
        meter.end_stage("encode")
        questions = self._questions(pack)
        decoder = PackDecoder(
            self._model,
            pack,
            features,
            questions,
            self.sequential.stops,
            meter,
            max_pass_tokens=self._max_pass_tokens,
        )
        decoder.run()
        meter.add_to(self.stats, self._shapes)
        self.stats.cache_bytes_moved += decoder.cache_bytes_moved
        return questions

    def _questions(self, pack: Pack) -> list[Question]:
        questions = []
        for number, row in enumerate(pack.rows):
            for owner, request in enumerate(row.requests):
                room = self.sequential.room(len(request.prompt_ids) + row.image_tokens)
                generation = request.generation
                sampling = SeededSampling(request.key, generation) if generation.do_sample else None
                question = Question(
                    request=request,
                    row=number,
                    owner=owner,
                    position=row.prefix_tokens,
                    max_new_tokens=min(generation.max_new_tokens, room),
                    sampling=sampling,
                )
                questions.append(question)
        return questions

    def _encode(self, pack: Pack, prepared: Prepared) -> dict[str, torch.Tensor]:
        """(S, D) embeddings of each distinct image of a pack; images of one shape in one batch."""
        model = self._model
        by_shape: dict[torch.Size, list[str]] = {}
        for key in {image.key: None for request in pack.requests for image in request.images}:
            by_shape.setdefault(prepared[key].pixel_values.shape, []).append(key)
        features: dict[str, torch.Tensor] = {}
        self._encoded_alone.clear()
        for keys in by_shape.values():
            # from pinned memory without waiting; another dtype first would not be pinned
            pixels = torch.stack(
                [prepared[key].pixel_values.to(model.device, non_blocking=True) for key in keys]
            )
            sizes = [prepared[key].size for key in keys]
            embeds = model.image_features(pixels.to(model.dtype), sizes)
            features |= dict(zip(keys, embeds, strict=True))
            if len(keys) == 1:
                self._encoded_alone[tuple(keys)] = EncodedImages(embeds)
            tower = model.get_vision_tower()
            self.stats.num_tower_calls += -(-pixels.shape[:-3].numel() // tower.images_at_once)
        return features

    def _result(self, question: Question, prepared: Prepared, latency_s: float) -> Result:
        """The answer as packed, or computed again alone where packing may have changed it."""
        request = question.request
        self.stats.num_packed += 1
        images = [prepared[image.key] for image in request.images]
        packed = self.sequential.completion(
            request, question.tokens, images, question.margins, latency_s
        )
        is_due = self.near_ties.note(question.margins, question.tops)
        if not (self.near_ties.must_replay(question.margins, question.tops) or is_due):
            return packed
        started = time.perf_counter()
        again = self._answer_again(request, images)
        self.stats.replay_s += time.perf_counter() - started
        self.stats.num_replayed += 1
        if isinstance(again, RequestFailure):
            return again
        flipped = again.token_ids != packed.token_ids
        self.stats.num_flipped += flipped
        if again.margins:
            self.near_ties.measure(packed, question.tops, again, is_due=is_due)
        return replace(again, replayed=True, flipped=flipped)

    def _answer_again(self, request: Request, images: Sequence[PreparedImage]) -> Result:
        """The sequential answer, from the images as they were prepared for the pack."""
        again = self.sequential.answer(request, images=images, encoded=self._encoded_alone)
        lacked_memory = (
            isinstance(again, RequestFailure) and again.cause == FailureCause.OUT_OF_MEMORY
        )
        if lacked_memory and self._model.device.type == "cuda":
            torch.cuda.empty_cache()  # what packs have left in pieces may do for one question
            again = self.sequential.answer(request, images=images, encoded=self._encoded_alone)
        return again


def why_alone(model: Any) -> str:
    """Returns why questions to a model go one by one, for a person; empty where they are packed."""
    config = model.config
    family = MODEL_TYPES.get(config.model_type)
    if family is None or not family.is_packable:
        return f"the attention of {config.model_type} cannot keep the questions of a pack apart"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in _GROWING_ROPE:
        return f"with {rope} rotary scaling, an answer would hang on the questions beside it"
    stated = {name: getattr(model.generation_config, name, None) for name in sorted(_NEUTRAL)}
    unusual = [name for name, value in stated.items() if value not in (None, _NEUTRAL[name])]
    return f"its generation config has {', '.join(unusual)}" if unusual else ""
