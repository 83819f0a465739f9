"""Prompts with image placeholders to token ids."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX

if TYPE_CHECKING:
    import torch

_CACHED_CHUNKS = 64


class ChunkEncoder:
    """A tokenizer that remembers the ids of texts: the head of a template is in every prompt.

    Args:
        tokenizer: Gives an object with `input_ids` for a text; it must stay as it is.
    """

    def __init__(self, tokenizer: Callable[[str], Any]) -> None:
        self.bos_token_id = getattr(tokenizer, "bos_token_id", None)
        encode = getattr(tokenizer, "encode_text", None) or (lambda text: tokenizer(text).input_ids)
        self.encode_text: Callable[[str], list[int]] = lru_cache(_CACHED_CHUNKS)(encode)


def tokenizer_image_token(
    prompt: str,
    tokenizer: Callable[[str], Any] | ChunkEncoder,
    image_token_index: int = IMAGE_TOKEN_INDEX,
    return_tensors: str | None = None,
) -> list[int] | torch.Tensor:
    """Returns the ids of a prompt, with `image_token_index` for each `<image>` in it.

    Each chunk around the placeholders is tokenized alone and loses its begin token, but for the
    one at the very start.

    Args:
        prompt: Text with any number of `<image>`.
        tokenizer: Gives an object with `input_ids` for a text.
        image_token_index: The placeholder id.
        return_tensors: None for a list, "pt" for a (S,) int64 tensor; ValueError for others.
    """
    encoder = tokenizer if isinstance(tokenizer, ChunkEncoder) else ChunkEncoder(tokenizer)
    chunks = [encoder.encode_text(chunk) for chunk in prompt.split(DEFAULT_IMAGE_TOKEN)]
    begin = encoder.bos_token_id
    has_begin = bool(chunks[0]) and begin is not None and chunks[0][0] == begin
    ids: list[int] = list(chunks[0])
    for chunk in chunks[1:]:
        ids += [image_token_index, *(chunk[1:] if has_begin else chunk)]
    if return_tensors is None:
        return ids
    if return_tensors != "pt":
        raise ValueError(
            f"`return_tensors` must be None or 'pt', but is {return_tensors!r}. "
            "Convert the list yourself for other frameworks."
        )
    import torch

    return torch.tensor(ids, dtype=torch.long)
