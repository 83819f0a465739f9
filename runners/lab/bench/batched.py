"""What other harnesses do: batches of questions, left-padded, through `model.generate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from llava.generation.preprocess import prepare_images
from llava.generation.request import Completion, Request, RequestFailure
from llava.generation.sequential import SequentialEngine


class BatchedEngine:
    """A baseline to compare with: no prefix is shared, answers may change with the batch.

    Args:
        parts: What a `SequentialEngine` takes: tokenizer, model, image processor, context length.
        batch_size: Questions of a batch.
    """

    def __init__(self, *parts: Any, batch_size: int) -> None:
        self._sequential = SequentialEngine(*parts)
        self._batch_size = batch_size

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """Yields the completions, batch by batch; requests have one image each."""
        for start in range(0, len(requests), self._batch_size):
            yield from self._batch(requests[start : start + self._batch_size])

    def _batch(self, requests: Sequence[Request]) -> Iterator[Completion]:
        model, processor = self._sequential.model, self._sequential.image_processor
        prepared = [prepare_images(request.images, processor, model.config) for request in requests]
        pixels = torch.stack([image.pixel_values for images in prepared for image in images])
        longest = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), longest, dtype=torch.long)
        mask = torch.zeros(len(requests), longest, dtype=torch.long)
        for row, request in enumerate(requests):
            ids[row, longest - len(request.prompt_ids) :] = torch.from_numpy(request.prompt_ids)
            mask[row, longest - len(request.prompt_ids) :] = 1
        # An answer begins behind the last place, so that padding has to stand in front.
        model.config.tokenizer_padding_side = "left"
        output = model.generate(
            ids.to(model.device),
            images=pixels.to(model.device, model.dtype),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=max(request.generation.max_new_tokens for request in requests),
            past_key_values=DynamicCache(),
        )
        for request, images, tokens in zip(requests, prepared, output.tolist(), strict=True):
            stops = (i + 1 for i, token in enumerate(tokens) if token in self._sequential.stops)
            end = next(stops, len(tokens))  # behind it the batch waits for its longest answer
            # only tokens are compared
            yield self._sequential.completion(request, tokens[:end], images, (), 0.0)
