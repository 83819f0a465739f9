"""Questions cut into pieces of work: whole groups with the same images, of about equal size.

The cut knows nothing of a device's memory; a worker packs what it gets as its memory allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evals.records import Sample

MAX_TOKENS = 20_000
"""About as many estimated tokens go into one piece; a group is never split."""

_CHARACTERS_PER_TOKEN = 4
_TOKENS_AROUND_TEXT = 50  # template and answer


def group_by_images(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Returns the questions in groups of equal images, in order of first appearance.

    A question without images is a group of its own.
    """
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        keys = sample.image_keys or ("", sample.key)  # no image has an empty key
        groups.setdefault(keys, []).append(sample)
    return list(groups.values())


def cut_into_pieces(
    samples: Iterable[Sample], num_image_tokens: int, max_tokens: int = MAX_TOKENS
) -> Iterator[list[Sample]]:
    """Yields lists of questions of about `max_tokens` estimated tokens, groups kept whole."""
    piece: list[Sample] = []
    num_tokens = 0
    for group in group_by_images(samples):
        size = estimate_tokens(group, num_image_tokens)
        if piece and num_tokens + size > max_tokens:
            yield piece
            piece, num_tokens = [], 0
        piece.extend(group)
        num_tokens += size
    if piece:
        yield piece


def estimate_tokens(group: list[Sample], num_image_tokens: int) -> int:
    """Returns about how many tokens a group costs if its images are read once."""
    texts = sum(len(sample.text) // _CHARACTERS_PER_TOKEN + _TOKENS_AROUND_TEXT for sample in group)
    return len(group[0].images) * num_image_tokens + texts
