"""Image features into token embeddings: pure functions on tensors.

Legend: B batch, S text tokens of a row (placeholders included), L tokens and image features of a
fused row, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX


def fuse_row(
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    image_features: Sequence[torch.Tensor],
    embed_tokens: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns embeddings (L, D) and labels (L,) of a row, each placeholder replaced by an image.

    Args:
        input_ids: (S,) int64 without padding; -200 marks an image.
        labels: (S,) int64.
        image_features: One (P, D) for each placeholder.
        embed_tokens: Token ids (N,) to embeddings (N, D).
    """
    is_image = input_ids == IMAGE_TOKEN_INDEX
    places = is_image.nonzero()[:, 0].tolist()
    text = embed_tokens(input_ids.masked_fill(is_image, 0))
    ignored = [labels.new_full(features.shape[:1], IGNORE_INDEX) for features in image_features]
    return fuse(text, places, image_features), fuse(labels, places, ignored)


def fuse(row: torch.Tensor, places: Sequence[int], images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns a row (S, ...) as (L, ...): an image (P, ...) instead of what is at each place."""
    parts, start = [], 0
    for place, image in zip(places, images, strict=True):
        parts += [row[start:place], image.to(row)]
        start = place + 1
    return torch.cat([*parts, row[start:]])


def assign_images(
    rows: Sequence[torch.Tensor], image_features: Sequence[torch.Tensor]
) -> list[Sequence[torch.Tensor]]:
    """Returns the images of each row: they are dealt in order, one for each placeholder.

    A row without placeholders takes one image out of the order and does not show it; that is how
    the reference lays out batches in which some rows have no image. Images left over are unused.

    Raises:
        ValueError: there are fewer images than the rows take.
    """
    assigned: list[Sequence[torch.Tensor]] = []
    taken = 0
    for row in rows:
        num_images = int((row == IMAGE_TOKEN_INDEX).sum())
        assigned.append(image_features[taken : taken + num_images])
        taken += max(num_images, 1)
    if taken > len(image_features):
        raise ValueError(
            f"`images` must hold one image for each placeholder and one for each row without any, "
            f"{taken} in all, but holds {len(image_features)}. Add the missing images; a row of "
            "text alone takes an all-zero one."
        )
    return assigned


def pad_rows(
    embeds: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    *,
    padding_side: str,
    max_length: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns rows brought to the length of the longest, ready for the language model.

    Args:
        embeds: (L_i, D) each.
        labels: (L_i,) each.
        padding_side: `left` or `right`; ValueError for anything else.
        max_length: Longer rows lose their end; None for no limit.

    Returns:
        Embeddings (B, L, D), attention mask (B, L) bool, position ids (B, L) int64, counted from
        each row's first token, and labels (B, L) int64. Where a row is padded they are zero
        vectors, False, 0 and `IGNORE_INDEX`.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"`padding_side` must be left or right, but is {padding_side!r}.")
    embeds = [row[:max_length] for row in embeds]
    labels = [row[:max_length] for row in labels]
    places = [torch.arange(len(row), device=row.device) for row in embeds]

    def padded(rows: list[torch.Tensor], value: int = 0) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=padding_side)

    mask = padded([torch.ones_like(row, dtype=torch.bool) for row in places])
    return padded(embeds), mask, padded(places), padded(labels, IGNORE_INDEX)
