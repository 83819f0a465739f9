"""Which questions are computed together: pure, on token counts alone.

Questions about the same images share everything up to the end of the last image (text-only ones
share the head of the template). Such a group is a row of a pack: its shared tokens are computed
once, the rest of each question behind them. A pack is what goes through the model at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.request import Request

Ids = npt.NDArray[np.int32]

USUAL_NEW_TOKENS = 32
"""Longest answer that planning makes room for; the few longer ones take what memory is left."""

MAX_PADDED = 1.15
"""What a pass through prompts computes over what counts of it, where rows of several lengths are
joined."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Questions with a shared beginning.

    Attributes:
        requests: At least one.
        prefix_length: Leading ids that all prompts share and that are computed once; at least one
            id of each prompt is left, unless the row was planned for a single request, which is
            all prefix.
        image_tokens: How many more embeddings its images take than ids stand for them.
    """

    requests: tuple[Request, ...]
    prefix_length: int
    image_tokens: int

    @property
    def prefix_tokens(self) -> int:
        """Embeddings of the prefix, those of the images counted."""
        return self.prefix_length + self.image_tokens

    @cached_property
    def suffix_tokens(self) -> int:
        """Embeddings behind it, of all requests together."""
        return sum(len(request.prompt_ids) - self.prefix_length for request in self.requests)

    @cached_property
    def num_new_tokens(self) -> int:
        """Room for answers of usual length."""
        return sum(map(_room, self.requests))

    @property
    def num_tokens(self) -> int:
        """Embeddings of prefix and suffixes, new tokens not counted."""
        return self.prefix_tokens + self.suffix_tokens

    @property
    def cost(self) -> int:
        """Cache slots that the row takes."""
        return self.num_tokens + self.num_new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Rows that go through the model together."""

    rows: tuple[Row, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        """The questions of all rows."""
        return tuple(request for row in self.rows for request in row.requests)

    @property
    def num_slots(self) -> int:
        """Cache slots of each row: prefixes are padded, and so is what comes behind them."""
        sizes = ((row.prefix_tokens, row.suffix_tokens, row.num_new_tokens) for row in self.rows)
        return sum(map(max, zip(*sizes, strict=True)))

    @property
    def cost(self) -> int:
        """Cache slots that the pack takes."""
        return len(self.rows) * self.num_slots


def plan_packs(
    requests: Sequence[Request],
    *,
    max_tokens: int,
    max_rows: int,
    num_image_tokens: int,
    width: int,
) -> list[Pack]:
    """Returns packs that hold every request exactly once, the most expensive first.

    A group is split where it is larger than the budget, or where attention among its questions,
    which is computed and then hidden, costs more than another prefix. A single request over the
    budget gets a pack of its own. Rows of a pack are of like length.

    Args:
        requests: The questions of a work item.
        max_tokens: Largest cost of a pack, in cache slots.
        max_rows: Largest number of rows of a pack.
        num_image_tokens: Embeddings of a usual image.
        width: Of an embedding; decides how many questions read the same prefix.
    """
    groups = defaultdict(list)
    for request in requests:
        groups[group_key(request)].append(request)
    rows = [
        row
        for group in groups.values()
        for row in _rows(group, max_tokens, num_image_tokens, width)
    ]
    # single requests need no second pass, so that they go through the prompts on their own
    rows.sort(key=lambda row: (len(row.requests) == 1, -row.cost))
    packs: list[Pack] = []
    current: tuple[Row, ...] = ()
    for row in rows:
        joined = Pack(rows=(*current, row))
        if current and (len(joined.rows) > max_rows or joined.cost > max_tokens):
            packs.append(Pack(rows=current))
            joined = Pack(rows=(row,))
        current = joined.rows
    if current:
        packs.append(Pack(rows=current))
    return sorted(packs, key=lambda pack: -pack.cost)


def split_passes(rows: Sequence[Row], max_tokens: int | None) -> list[range]:
    """Returns which rows of a pack go through their prompts at once, one after the other.

    Only answers are written by all rows together: they have no padding in front of them.

    Args:
        rows: Of the pack.
        max_tokens: Rows are joined up to so many embeddings of prompts, padding included; None for
            no other limit than `MAX_PADDED`.
    """
    passes = []
    start = 0
    for end in range(1, len(rows) + 1):
        joined = rows[start : end + 1]
        are_alike = len({row.suffix_tokens > 0 for row in joined}) == 1
        num_tokens = len(joined) * max(row.num_tokens for row in joined)
        fit = are_alike and (max_tokens is None or num_tokens <= max_tokens)
        if end == len(rows) or not (fit and padded_share(joined) <= MAX_PADDED):
            passes.append(range(start, end))
            start = end
    return passes


def padded_share(rows: Sequence[Row]) -> float:
    """Returns what a pass of rows computes over what counts of it, for the pass that pads more."""
    passes = zip(*((row.prefix_tokens, row.suffix_tokens) for row in rows), strict=True)
    return max(len(each) * max(each) / max(1, sum(each)) for each in passes)


def halve(pack: Pack) -> list[Pack]:
    """Returns two packs with about half the cost each; [] for a pack of one request."""
    if len(pack.rows) > 1:
        middle = len(pack.rows) // 2
        return [Pack(rows=pack.rows[:middle]), Pack(rows=pack.rows[middle:])]
    (row,) = pack.rows
    if len(row.requests) == 1:
        return []
    middle = len(row.requests) // 2
    halves = row.requests[:middle], row.requests[middle:]
    return [Pack(rows=(replace(row, requests=requests),)) for requests in halves]


def split_to_fit(pack: Pack, max_tokens: int) -> list[Pack]:
    """Returns a pack in parts, each within so many cache slots or a single request."""
    if pack.cost <= max_tokens:
        return [pack]
    parts = [part for half in halve(pack) for part in split_to_fit(half, max_tokens)]
    return parts or [pack]


def with_image_tokens(pack: Pack, image_tokens: Callable[[Request], int]) -> Pack:
    """Returns a pack with the `image_tokens` that its rows have; planning takes the usual ones."""
    rows = (replace(row, image_tokens=image_tokens(row.requests[0])) for row in pack.rows)
    return Pack(rows=tuple(rows))


def without(pack: Pack, keys: Collection[str]) -> Pack | None:
    """Returns a pack without some requests; None if nothing is left."""
    kept = ((row, [each for each in row.requests if each.key not in keys]) for row in pack.rows)
    rows = tuple(replace(row, requests=tuple(requests)) for row, requests in kept if requests)
    return Pack(rows=rows) if rows else None


def prefix_end(ids: Ids) -> int:
    """Returns the number of ids up to and including the last image; 0 without images."""
    places = np.flatnonzero(ids == IMAGE_TOKEN_INDEX)
    return int(places[-1]) + 1 if len(places) else 0


def group_key(request: Request) -> tuple[bytes, tuple[str, ...]]:
    """Returns what requests of one group have in common: the ids up to the last image, the images.

    A prompt that ends with its image, or consists of one token, has nothing to put behind a prefix
    and stays alone.
    """
    end = prefix_end(request.prompt_ids)
    images = tuple(image.key for image in request.images)
    alone = (request.key,) if len(request.prompt_ids) <= max(end, 1) else ()
    return request.prompt_ids[:end].tobytes(), (*images, *alone)


def _rows(
    group: Sequence[Request], max_tokens: int, num_image_tokens: int, width: int
) -> list[Row]:
    """The group as one row, or as several if it is larger than the budget or usefully cut."""
    images = len(group[0].images) * (num_image_tokens - 1)
    shared = _shared_length(group)
    if shared == 0:
        return [_row([request], 0, 0) for request in group]
    rows: list[Row] = []
    part: list[Request] = []
    cost, num_suffix = shared + images, 0
    max_suffix = _max_suffix(sum(len(r.prompt_ids) - shared for r in group), cost, width)
    for request in group:
        own = len(request.prompt_ids) - shared
        added = own + _room(request)
        if part and (cost + added > max_tokens or num_suffix >= max_suffix):
            rows.append(_row(part, shared, images))
            part, cost, num_suffix = [], shared + images, 0
        part.append(request)
        cost += added
        num_suffix += own
    rows.append(_row(part, shared, images))
    return rows


def _max_suffix(total: int, prefix: int, width: int) -> int:
    """Ids behind a prefix after which it is read once more, so that parts are about equal.

    A layer's weights cost a token 24 `width`^2 operations, seeing another one costs it 4 `width`.
    S tokens in two rows instead of one see S / 2 fewer each, for one prefix more: it is worth it
    from S^2 = 12 `width` `prefix` on, or half of that, as attention is computed at a lower rate.
    """
    num_parts = max(1, round(total / math.sqrt(6 * width * prefix)))
    return -(-total // num_parts)


def _row(requests: Sequence[Request], shared: int, image_tokens: int) -> Row:
    # of a single request nothing is shared: all of it goes through the model at once
    length = len(requests[0].prompt_ids) if len(requests) == 1 else shared
    return Row(requests=tuple(requests), prefix_length=length, image_tokens=image_tokens)


def _room(request: Request) -> int:
    return min(request.generation.max_new_tokens, USUAL_NEW_TOKENS)


def _shared_length(group: Sequence[Request]) -> int:
    """Leading ids that all prompts of a group have in common, leaving each at least one more."""
    first = group[0].prompt_ids
    shared = min(len(request.prompt_ids) for request in group) - 1
    for request in group[1:]:
        differing = np.flatnonzero(first[:shared] != request.prompt_ids[:shared])
        if len(differing):
            shared = int(differing[0])
    return max(shared, prefix_end(first))
