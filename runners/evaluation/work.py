"""The questions of one task as work for those that hold the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from evals.records import Failure, Sample
from llava.generation.request import GenerationConfig, Request
from runners.evaluation.pieces import cut_into_pieces, estimate_piece, item_tokens
from runners.evaluation.prompts import PromptRenderer


@dataclass(slots=True, kw_only=True)
class Work:
    """Questions in items that are computed together, the heaviest first.

    An item is rendered and tokenized when it is asked for, so that the first one is there at once.
    Making one writes nothing: whoever stores results takes the failures of questions that no
    request can be made of from here.

    Args:
        samples: The questions.
        renderer: Makes prompts of them.
        generation: How answers are generated.
        num_image_tokens: What an image costs; the size of items hangs on it.
        num_workers: How many share the work.
    """

    samples: Sequence[Sample]
    renderer: PromptRenderer
    generation: GenerationConfig
    num_image_tokens: int
    num_workers: int = 1
    _failures: list[Failure] = field(default_factory=list, init=False)

    def items(self) -> Iterator[tuple[Request, ...]]:
        """Yields the requests of each item, so that no worker is left alone with a large one."""
        total = estimate_piece(self.samples, self.num_image_tokens)
        size = item_tokens(total, self.num_workers)
        pieces = list(cut_into_pieces(self.samples, self.num_image_tokens, size))
        pieces.sort(key=lambda piece: -estimate_piece(piece, self.num_image_tokens))
        for piece in pieces:
            made = [self.renderer.build_request(sample, self.generation) for sample in piece]
            self._failures += (failure for failure in made if isinstance(failure, Failure))
            if requests := tuple(request for request in made if isinstance(request, Request)):
                yield requests

    def take_failures(self) -> list[Failure]:
        """Returns the failures of questions that no request can be made of, each once."""
        taken, self._failures = self._failures, []
        return taken
