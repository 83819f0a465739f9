"""The questions of one task as work: cut into items, and rendered.

An item is a few packs of a worker with much memory; how it is packed, the worker decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from evals.records import Failure, Sample
from llava.generation.request import GenerationConfig, Request
from llava.model.checkpoint import Checkpoint
from runners.evaluation.prompts import PromptRenderer
from runners.storage.asked import estimate_tokens, group_by_images

MAX_TOKENS = 20_000
"""About as many estimated tokens go into one piece; only a group with more is split."""

_PACKS = 2  # of a worker with much memory: what remains behind full packs is part of a pack
_MIN_TOKENS = 2_000
_PIECES_PER_WORKER = 4
_LAST_PART = 16
_DOUBLINGS = 16  # more than any memory has room for


@dataclass(slots=True, kw_only=True)
class Work:
    """Questions in items that are computed together, those with the longest groups first.

    What failed before comes after everything else: where it ends workers again, all others have
    been asked.

    An item is rendered and tokenized when it is asked for, so that the first one is there at once.
    Making one writes nothing: whoever stores results takes the failures of questions that no
    request can be made of from here.

    Attributes:
        num_image_tokens: What an image costs; the size of items hangs on it.
        num_workers: How many share the work.
        pack_tokens: Cache slots of a worker's pack; None where that is not known.
        failed_before: Keys of questions that failed in an earlier session.
    """

    samples: Sequence[Sample]
    renderer: PromptRenderer
    generation: GenerationConfig
    num_image_tokens: int
    num_workers: int = 1
    pack_tokens: int | None = None
    failed_before: Set[str] = frozenset()
    _failures: list[Failure] = field(default_factory=list, init=False)

    def items(self) -> Iterator[tuple[Request, ...]]:
        """Yields the requests of each item, so that no worker is left alone with a large one."""
        fresh = [sample for sample in self.samples if sample.key not in self.failed_before]
        again = [sample for sample in self.samples if sample.key in self.failed_before]
        for piece in (*self._pieces(fresh), *self._pieces(again)):
            made = [self.renderer.build_request(sample, self.generation) for sample in piece]
            self._failures += (failure for failure in made if isinstance(failure, Failure))
            if requests := tuple(request for request in made if isinstance(request, Request)):
                yield requests

    def _pieces(self, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        most = most_tokens(self.pack_tokens or 0)
        return cut_into_pieces(samples, self.num_image_tokens, most, self.num_workers)

    def take_failures(self) -> list[Failure]:
        """Returns the failures of questions that no request can be made of, each once."""
        taken, self._failures = self._failures, []
        return taken


def most_tokens(pack_tokens: int) -> int:
    """Returns how many tokens a piece may have for workers with so many cache slots a pack."""
    return max(MAX_TOKENS, _PACKS * pack_tokens)


def cut_into_pieces(
    samples: Iterable[Sample],
    num_image_tokens: int,
    max_tokens: int = MAX_TOKENS,
    num_workers: int = 1,
) -> Iterator[list[Sample]]:
    """Yields lists of questions of up to `max_tokens` estimated tokens, the longest groups first.

    Groups of like length come together, as a pack of them needs little padding. They are kept whole
    unless one alone has more than `max_tokens` and `MAX_TOKENS`. The first pieces are small, and
    for several workers the last ones, see `piece_tokens`.
    """
    piece: list[Sample] = []
    num_tokens = 0
    sized = [
        (estimate_tokens(part, num_image_tokens), part)
        for group in group_by_images(samples)
        for part in _split_long(group, num_image_tokens, max(max_tokens, MAX_TOKENS))
    ]
    left = sum(size for size, _ in sized)
    number, limit = 0, piece_tokens(0, left, num_workers, max_tokens)
    for size, group in sorted(sized, key=lambda one: -one[0]):
        if piece and num_tokens + size > limit:
            yield piece
            number, left = number + 1, left - num_tokens
            limit = piece_tokens(number, left, num_workers, max_tokens)
            piece, num_tokens = [], 0
        piece.extend(group)
        num_tokens += size
    if piece:
        yield piece


def _split_long(
    group: list[Sample], num_image_tokens: int, max_tokens: int
) -> Iterator[list[Sample]]:
    """A group of equal images in parts that are no longer than a piece may be."""
    size = estimate_tokens(group, num_image_tokens)
    num_parts = -(-size // max_tokens)
    length = -(-len(group) // num_parts)
    for start in range(0, len(group), length):
        yield group[start : start + length]


def piece_tokens(number: int, left: int, num_workers: int, max_tokens: int) -> int:
    """Returns how many of the tokens that are left go into a piece; the first has number 0.

    The first ones are small, as workers have nothing to do until they are made, and each worker's
    next one has twice as much. In the end several workers get less and less, so that they are done
    at about the same time.

    >>> [piece_tokens(n, 20_000_000, 8, 131_072) for n in (0, 7, 8, 16, 24)]
    [20000, 20000, 40000, 80000, 131072]
    >>> [piece_tokens(99, left, 8, 131_072) for left in (1_000_000, 100_000, 5_000)]
    [31250, 8192, 8192]
    """
    first = min(max_tokens, MAX_TOKENS)
    rising = min(max_tokens, first << min(number // num_workers, _DOUBLINGS))
    if num_workers == 1:
        return rising
    share = left // (num_workers * _PIECES_PER_WORKER)
    return min(rising, max(_MIN_TOKENS, max_tokens // _LAST_PART, share))


def most_image_tokens(checkpoint: Checkpoint) -> int:
    """Returns the embeddings of an image in the largest layout; 0 for a plain language model."""
    if checkpoint.tower is None:
        return 0
    return checkpoint.tower.num_features * checkpoint.layout.num_read(checkpoint.tower.image_size)


def image_tokens(checkpoint: Checkpoint, num_images: int) -> tuple[int, int]:
    """Returns the fewest and the most embeddings of each of so many images of one question.

    Newlines are counted among the most; tiles without the whole image may be cut to any few.
    """
    tower = checkpoint.tower
    if tower is None:
        return 0, 0
    side, layout = tower.image_size, checkpoint.layout.of_each(num_images)
    newlines = layout.most_newlines(side, tower.num_patches_per_side)
    most = tower.num_features * layout.num_read(side) + newlines
    if layout.num_views(side) == 1:
        return most, most
    return tower.num_features if layout.keeps_base else 0, most
