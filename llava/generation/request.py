"""What goes into the engine and what comes out of it.

A request is complete in itself, and never holds the target of its question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from llava.generation.calibration import Calibration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image


class ImageSource(Protocol):
    """Where one image comes from; opened lazily, in the worker, and picklable."""

    @property
    def key(self) -> str:
        """Identity of the image within its task; equal keys are the same image."""

    def open(self) -> Image:
        """Returns the decoded image in the mode in which the model is to see it.

        Raises:
            OSError: the file is missing, unreadable or no image.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How answers are generated; the defaults are greedy decoding as for the published figures.

    Attributes:
        max_new_tokens: The largest number of new tokens of an answer.
        temperature: 0 for greedy decoding, otherwise the softmax temperature of sampling.
        top_p: Nucleus mass; None keeps the whole distribution. Ignored when greedy.
        num_beams: 1 for none; beams are not sampled.
        seed: An answer that is sampled depends on it, on its request's key and on nothing else.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"`max_new_tokens` must be at least 1, but is {self.max_new_tokens}.")
        if not 0 <= self.temperature < math.inf:  # nor NaN, which every comparison lets through
            raise ValueError(
                f"`temperature` must be 0 or larger and finite, but is {self.temperature}. Use 0 "
                "for greedy decoding."
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"`top_p` must be in (0, 1], but is {self.top_p}. Use null for the whole "
                "distribution."
            )
        if self.num_beams < 1:
            raise ValueError(f"`num_beams` must be at least 1, but is {self.num_beams}.")
        if self.num_beams > 1 and self.do_sample:
            raise ValueError(
                f"`num_beams` must be 1 where tokens are sampled, but is {self.num_beams}. Use "
                "`temperature` 0 for beams."
            )

    @property
    def do_sample(self) -> bool:
        """Whether tokens are sampled."""
        return self.temperature > 0


CHOOSING = {"temperature": 0.0, "num_beams": 1, "max_new_tokens": 1}
"""What a request with choices needs of its generation: one token, and not at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question for the engine.

    Attributes:
        key: Unique within the task.
        prompt_ids: (S,) int32, the tokenized prompt; -200 stands for an image.
        images: One source for each -200 in `prompt_ids`, in order.
        generation: How to generate the answer.
        choices: The tokens of which the likeliest is the whole answer; empty for any answer. Of
            equal ones the first is taken.
    """

    key: str
    prompt_ids: npt.NDArray[np.int32]
    images: tuple[ImageSource, ...] = ()
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.choices:
            return
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(
                f"`choices` must be different tokens, but are {self.choices}. Give each choice a "
                "token of its own."
            )
        for name, usual in CHOOSING.items():
            value = getattr(self.generation, name)
            if value != usual:
                raise ValueError(
                    f"`{name}` must be {usual:g} where a request has choices, but is {value}. "
                    "Leave the choices out to have an answer generated."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The answer to one request.

    Attributes:
        key: The request's key.
        token_ids: New tokens only, the end token included if it was reached.
        text: The decoded tokens, special ones and the one that ended it left out, stripped.
        finish_reason: `stop` (end token), `length` (max_new_tokens), `context` (context full) or
            `choice` (one of the request's choices).
        num_prompt_tokens: Length of the prompt with its image embeddings.
        min_margin: The smallest of `margins`; None where they are not measured (beams).
        latency_s: Seconds that the answer took.
        image_sha256: Hash of the decoded pixels of each image, as hex.
        margins: Distance of the two largest logits at each step; of a choice, of the two largest
            among the choices; when sampling, how far logits may move before another is drawn.
        replayed: Whether a packed engine computed the answer again, alone.
        flipped: Whether that changed it.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    num_prompt_tokens: int
    min_margin: float | None
    latency_s: float
    image_sha256: tuple[str, ...] = ()
    margins: tuple[float, ...] = ()
    replayed: bool = False
    flipped: bool = False


class FailureCause(str, Enum):
    """Why a request could not be answered."""

    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    PROMPT_TOO_LONG = "prompt_too_long"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailure:
    """One request that could not be answered; `message` is for a person, `cause` for counting."""

    key: str
    cause: FailureCause
    message: str


class RequestError(Exception):
    """A request cannot be answered, for a cause that is counted."""

    def __init__(self, cause: FailureCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause

    def failure(self, key: str) -> RequestFailure:
        """Returns the failure of the request with this key."""
        return RequestFailure(key=key, cause=self.cause, message=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProbe:
    """What the image of the question `key` does to its answer.

    Attributes:
        logit_change: By how much a blank image moves a logit of the first new token at most.
        is_finite: Whether all these logits are numbers, with either image.
        text: The answer, cut short.
        blank_text: The answer about a blank image of the same size.
    """

    key: str
    logit_change: float
    is_finite: bool
    text: str
    blank_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one part of answering in packs took.

    Attributes:
        seconds: Of the device; of the host on a CPU.
        num_computed: Tokens that went through the language model, padding included.
        num_useful: Of these, those that are no padding.
    """

    seconds: float = 0.0
    num_computed: int = 0
    num_useful: int = 0

    def __add__(self, other: Stage) -> Stage:
        return Stage(
            seconds=self.seconds + other.seconds,
            num_computed=self.num_computed + other.num_computed,
            num_useful=self.num_useful + other.num_useful,
        )


@dataclass(slots=True, kw_only=True)
class EngineReport:
    """What an engine has done since it was built; it counts in a report of its own.

    Attributes:
        calibration: What this engine itself has seen of margins and their changes.
        threshold: The distance under which a token counts as nearly tied: in logits where it is
            fixed, else in steps of the format; None where all answers or none are computed again.
        num_packed: Answers from packs.
        num_replayed: Of these, computed again alone.
        num_flipped: Of these, with another result.
        num_halvings: Packs that did not fit and were halved.
        encode: Of packs: tower and projector.
        prefix: Of packs: what the questions of a row share.
        suffix: Of packs: what each question has of its own, up to its first new token.
        decode: Of packs: all other new tokens.
        num_tower_calls: Times that packs put images, some at once, through the tower.
        num_attention_shapes: Different sizes of attention in packs, each of which may need a plan
            of its own on a GPU: rows, new tokens, slots that they see, masked or not.
        cache_bytes_moved: Bytes of keys and values of packs that were copied to another place.
        waited_s: Seconds spent waiting for images.
        busy_s: Seconds of answering, waiting not counted, replays included.
        replay_s: Seconds of computing again, calibration included.
    """

    calibration: Calibration = field(default_factory=Calibration)
    threshold: float | None = None
    num_packed: int = 0
    num_replayed: int = 0
    num_flipped: int = 0
    num_halvings: int = 0
    encode: Stage = field(default_factory=Stage)
    prefix: Stage = field(default_factory=Stage)
    suffix: Stage = field(default_factory=Stage)
    decode: Stage = field(default_factory=Stage)
    num_tower_calls: int = 0
    num_attention_shapes: int = 0
    cache_bytes_moved: int = 0
    waited_s: float = 0.0
    busy_s: float = 0.0
    replay_s: float = 0.0

    @property
    def padding_share(self) -> float:
        """Share of padding in all tokens that packs put through the language model.

        >>> EngineReport(prefix=Stage(num_computed=8, num_useful=6)).padding_share
        0.25
        """
        passes = self.prefix + self.suffix + self.decode
        return 1 - passes.num_useful / passes.num_computed if passes.num_computed else 0.0
