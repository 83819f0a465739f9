"""Several images of a question, as transformers' OneVision and LLaVA-NeXT's evaluation see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.packed import PackedEngine
from llava.generation.preprocess import lay_out, prepare_image
from llava.generation.request import Completion, Request
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from runners.evaluation.work import image_tokens
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import build_request

SIZES = [(70, 50), (50, 90), (56, 56)]
SIDE, NUM_PATCHES = 56, 16
PLACE = 639


@dataclass(frozen=True)
class Fractal:
    """An image of a size."""

    size: tuple[int, int]

    @property
    def key(self) -> str:
        return f"{self.size}"

    def open(self) -> Image.Image:
        return Image.effect_mandelbrot(self.size, (-3, -2.5, 2, 2.5), 90).convert("RGB")


@dataclass(frozen=True)
class Native:
    """A small OneVision in transformers' format, in its class and in ours."""

    folder: Path
    theirs: Any
    processor: Any
    ours: LoadedModel

    def ask(self, num_images: int) -> Request:
        text, images = "<image>\n" * num_images + "Which one?", map(Fractal, SIZES[:num_images])
        return build_request(self.ours, f"{num_images}", text, list(images))

    def their_inputs(self, request: Request) -> dict[str, Any]:
        """What their class takes: each image as many tokens as it has embeddings there."""
        pixels = self.processor([[image.open() for image in request.images]], return_tensors="pt")
        features = self.theirs.model.get_image_features(**pixels).pooler_output
        lengths = iter(map(len, features))
        ids = [
            token
            for each in request.prompt_ids.tolist()
            for token in ([PLACE] * next(lengths) if each == IMAGE_TOKEN_INDEX else [each])
        ]
        return {**pixels, "input_ids": torch.tensor([ids])}


@pytest.fixture(scope="module", params=[2, 9], ids=["shrunk", "not shrunk"])
def native(request: Any, tmp_path_factory: Any, tiny_checkpoint: Path) -> Native:
    folder = tmp_path_factory.mktemp("onevision") / "llava-onevision-tiny-hf"
    small: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    small |= {"initializer_range": 0.3}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            **small, num_hidden_layers=3, image_size=SIDE, patch_size=14, vision_use_head=False
        ),
        text_config=Qwen2Config(
            **small, num_hidden_layers=2, num_key_value_heads=2, vocab_size=640
        ),
        image_grid_pinpoints=[[56, 112], [112, 56], [112, 112], [168, 112]],
        vision_aspect_ratio=f"anyres_max_{request.param}",
        image_token_index=PLACE,
    )
    torch.manual_seed(0)
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    processor = LlavaOnevisionImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=config.image_grid_pinpoints
    )
    processor.save_pretrained(folder)
    for file in tiny_checkpoint.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    ours = load_pretrained_model(str(folder), None, folder.name, device="cpu", dtype="float32")
    return Native(folder, theirs.eval(), processor, LoadedModel(*ours))


@pytest.mark.parametrize("num_images", [1, 2, 3])
def test_native_onevision_sees_images_as_transformers_does(
    native: Native, num_images: int, one_torch_thread: None
) -> None:
    request = native.ask(num_images)
    with torch.no_grad():
        inputs = native.their_inputs(request)
        expected = native.theirs(**inputs).logits[0, -1]
        answer = native.theirs.generate(**inputs, do_sample=False, max_new_tokens=8)
    laid_out = lay_out(request, native.ours.model.config)
    parts = native.ours.image_processor, native.ours.model.config
    images = [prepare_image(image, *parts) for image in laid_out.images]
    with torch.no_grad():
        logits = native.ours.model(
            input_ids=torch.from_numpy(request.prompt_ids).long()[None],
            images=[image.pixel_values for image in images],
            image_sizes=[image.size for image in images],
        ).logits[0, -1]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    num_tokens = inputs["input_ids"].shape[1]
    for engine in (SequentialEngine(*native.ours), PackedEngine(*native.ours, replay="off")):
        (result,) = engine.run([request])
        assert isinstance(result, Completion)
        assert result.num_prompt_tokens == num_tokens
        assert list(result.token_ids) == answer[0, num_tokens:].tolist()
    least, most = image_tokens(inspect_checkpoint(str(native.folder)), num_images)
    added = num_tokens - len(request.prompt_ids) + num_images
    assert least * num_images <= added <= most * num_images
    if num_images > 1:
        assert least == most == NUM_PATCHES + 1
