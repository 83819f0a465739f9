"""What a user of transformers writes: its class, its processor, left padding, `generate`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.generation.request import Completion, Request
from llava.generation.sequential import SequentialEngine

_NAMES = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "lm_head.": "lm_head.",
    "model.": "model.language_model.",
}
"""How names of tensors begin here, and how in transformers; the first that fits holds."""


class BatchedEngine:
    """A baseline to compare with: no prefix is shared, answers may change with the batch.

    Prompts become text again, so that the processor has to do all that it does for a user. All is
    computed in the language model's dtype, also the tower.

    Args:
        tokenizer: Of the model.
        model: A LLaVA around LLaMA, without tiles.
        image_processor: Of its tower.
        context_len: Of the model.
        batch_size: Questions of a batch.
    """

    def __init__(
        self, tokenizer: Any, model: Any, image_processor: Any, context_len: int, *, batch_size: int
    ) -> None:
        self._ours = SequentialEngine(tokenizer, model, image_processor, context_len)
        self._batch_size = batch_size
        own_tokenizer = copy.deepcopy(tokenizer)
        own_tokenizer.add_tokens([DEFAULT_IMAGE_TOKEN], special_tokens=True)
        own_tokenizer.padding_side = "left"
        tower = model.get_vision_tower()
        self._processor = LlavaProcessor(
            image_processor=image_processor,
            tokenizer=own_tokenizer,
            patch_size=tower.config.patch_size,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )
        self._model = _as_in_transformers(model, self._processor.image_token_id)

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yields the completions, batch by batch.

        Raises:
            RuntimeError: the processor makes other tokens of a prompt.
        """
        for start in range(0, len(requests), self._batch_size):
            yield from self._batch(requests[start : start + self._batch_size])

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request]) -> Iterator[Completion]:
        inputs = self._processor(
            text=[self._text(request) for request in requests],
            images=[image.open() for request in requests for image in request.images],
            padding=True,
            return_tensors="pt",
        ).to(self._model.device, self._model.dtype)
        self._check(requests, inputs)
        output = self._model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max(request.generation.max_new_tokens for request in requests),
        )
        stops = self._ours.stops
        for request, tokens in zip(
            requests, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True
        ):
            ends = (i + 1 for i, token in enumerate(tokens) if token in stops)
            end = next(ends, len(tokens))  # behind it the batch waits for its longest answer
            # only tokens are compared
            yield Completion(
                key=request.key,
                token_ids=tuple(tokens[:end]),
                text=self._processor.decode(tokens[:end], skip_special_tokens=True).strip(),
                finish_reason="length",
                num_prompt_tokens=len(request.prompt_ids),
                min_margin=None,
                latency_s=0.0,
            )

    def _text(self, request: Request) -> str:
        """The prompt as text, each image as the placeholder that the processor looks for."""
        parts: list[list[int]] = [[]]
        for token in request.prompt_ids.tolist():
            if token == IMAGE_TOKEN_INDEX:
                parts.append([])
            else:
                parts[-1].append(token)
        texts = [self._ours.tokenizer.decode(part, skip_special_tokens=True) for part in parts]
        return f"{DEFAULT_IMAGE_TOKEN} ".join(texts)

    def _check(self, requests: Sequence[Request], inputs: Any) -> None:
        """Sees to it that the processor asks what was to be asked, or nothing is compared."""
        image = self._processor.image_token_id
        for request, ids, mask in zip(
            requests, inputs["input_ids"], inputs["attention_mask"], strict=True
        ):
            text = [token for token in ids[mask.bool()].tolist() if token != image]
            if text != [token for token in request.prompt_ids.tolist() if token >= 0]:
                raise RuntimeError(
                    f"transformers' processor makes other tokens of the prompt of {request.key}, "
                    "so engines cannot be compared. Leave out `batched`."
                )


def _as_in_transformers(model: Any, image_token_id: int) -> LlavaForConditionalGeneration:
    """The same weights in transformers' class, with one more token, for images.

    Tensors are shared wherever dtypes agree, so that a large model is not there twice.
    """
    tower = model.get_vision_tower()
    text_config = {
        **model.config.to_dict(),
        "model_type": "llama",
        "vocab_size": image_token_id + 1,
    }
    config = LlavaConfig(
        vision_config=tower.config.to_dict(),
        text_config=text_config,
        image_token_id=image_token_id,
        vision_feature_layer=tower.select_layer,
        projector_hidden_act="gelu",
    )
    with model.device:
        theirs = LlavaForConditionalGeneration._from_config(config, dtype=model.dtype)  # noqa: SLF001
    tensors = {_name(name): tensor.to(model.dtype) for name, tensor in model.state_dict().items()}
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        # as likely as <unk>, which comes first, so that it is never the answer
        tensors[name] = torch.cat([tensors[name], tensors[name][:1]])
    theirs.load_state_dict(tensors, assign=True)
    theirs.generation_config = copy.deepcopy(model.generation_config)
    return theirs.eval()


def _name(name: str) -> str:
    ours, others = next((key, value) for key, value in _NAMES.items() if name.startswith(key))
    return others + name.removeprefix(ours)
