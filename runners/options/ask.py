"""The typed schema of `runners.ask`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from runners.options.kinds import Kind, of_kind
from runners.options.model import SubjectConfig


@dataclass(kw_only=True, slots=True)
class AskConfig(SubjectConfig):
    """Options of `runners.ask`.

    Attributes:
        prompt: The question; `<image>` marks where images stand, or none for the usual place.
        image: Files or http(s) addresses, separated by commas; null for text alone.
        temperature: 0 for greedy decoding.
        top_p: Nucleus mass in (0, 1], or null.
        num_beams: Number of beams.
        max_new_tokens: Longest answer.
    """

    prompt: str = field(default=MISSING, metadata=of_kind(Kind.PROSE))
    image: str | None = field(default=None, metadata=of_kind(Kind.IMAGES))
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1
    max_new_tokens: int = 512
