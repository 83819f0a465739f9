"""Questions cut into pieces of work: whole groups with the same images, of about equal size.

The cut knows nothing of a device's memory; a worker packs what it gets as its memory allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evals.records import Sample
from runners.storage.asked import estimate_tokens, group_by_images

MAX_TOKENS = 20_000
"""About as many estimated tokens go into one piece; only a group with more is split."""

_MIN_TOKENS = 2_000
_PIECES_PER_WORKER = 16


def cut_into_pieces(
    samples: Iterable[Sample], num_image_tokens: int, max_tokens: int = MAX_TOKENS
) -> Iterator[list[Sample]]:
    """Yields lists of questions of about `max_tokens` estimated tokens.

    Groups are kept whole unless one alone has more than `MAX_TOKENS`.
    """
    piece: list[Sample] = []
    num_tokens = 0
    groups = (
        part for group in group_by_images(samples) for part in _split_long(group, num_image_tokens)
    )
    for group in groups:
        size = estimate_tokens(group, num_image_tokens)
        if piece and num_tokens + size > max_tokens:
            yield piece
            piece, num_tokens = [], 0
        piece.extend(group)
        num_tokens += size
    if piece:
        yield piece


def _split_long(group: list[Sample], num_image_tokens: int) -> Iterator[list[Sample]]:
    """A group of equal images in parts that are no longer than a piece may be."""
    size = estimate_tokens(group, num_image_tokens)
    num_parts = -(-size // MAX_TOKENS)
    length = -(-len(group) // num_parts)
    for start in range(0, len(group), length):
        yield group[start : start + length]


def item_tokens(total: int, num_workers: int) -> int:
    """Returns the size of pieces that leaves several workers done at about the same time.

    >>> item_tokens(10_000_000, 8), item_tokens(1_000_000, 8), item_tokens(1_000_000, 1)
    (20000, 7812, 20000)
    """
    if num_workers == 1:
        return MAX_TOKENS
    share = total // (num_workers * _PIECES_PER_WORKER)
    return min(MAX_TOKENS, max(_MIN_TOKENS, share))


def estimate_piece(samples: Iterable[Sample], num_image_tokens: int) -> int:
    """Returns about how many tokens some questions cost if each image is read once."""
    return sum(estimate_tokens(group, num_image_tokens) for group in group_by_images(samples))
