"""The page on adding a model, followed to the letter: LLaVA on OLMo 2."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import llava.model.language_model
from evals.reading.images import ImageFile
from llava.conversation import render_question
from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, GenerationConfig, Request
from llava.generation.sequential import SequentialEngine
from llava.model import families
from llava.model.builder import load_pretrained_model
from llava.tokens import tokenizer_image_token
from runners.options.include import use_folders
from runners.options.model import ModelConfig
from tests.checkpoints import VOCAB_SIZE, make_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "add_a_model.md"
TEXT = PAGE.read_text(encoding="utf-8")
WIDTH = 64


@pytest.fixture
def olmo2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's module where the others lie, and the page's entry in the table of families."""
    entry, block = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (name,) = re.findall(r"`llava/model/language_model/(\w+)\.py`", TEXT)
    package = tmp_path / "language_model"
    package.mkdir()
    (package / f"{name}.py").write_text(block, encoding="utf-8")
    llava.model.language_model.__path__.append(str(package))
    family = eval(entry, vars(families))
    monkeypatch.setitem(families.FAMILIES, family.name, family)
    for model_type in (family.name, *family.llava_types):
        monkeypatch.setitem(families.MODEL_TYPES, model_type, family)
    yield importlib.import_module(f"llava.model.language_model.{name}")
    llava.model.language_model.__path__.remove(str(package))
    sys.modules.pop(f"llava.model.language_model.{name}")


def make_checkpoint(folder: Path, tower: Path, module: ModuleType) -> Path:
    make_tokenizer(folder)
    tower_config = json.loads((tower / "config.json").read_text(encoding="utf-8"))
    config = {
        "model_type": "llava_olmo2",
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "mm_hidden_size": tower_config["hidden_size"],
        "mm_projector_type": "linear",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(tower),
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = module.LlavaOlmo2ForCausalLM(module.LlavaOlmo2Config(**fields))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 2 / WIDTH**0.5 + (tensor.ndim == 1)
        for name, tensor in model.state_dict().items()
        if "vision_tower" not in name
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_new_family_loads_and_both_engines_agree(
    olmo2: ModuleType, tiny_tower: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    folder = make_checkpoint(tmp_path / "llava-v1.5-olmo2", tiny_tower, olmo2)
    parts = load_pretrained_model(str(folder), None, folder.name, device="cpu", dtype="float32")
    assert type(parts[1]) is olmo2.LlavaOlmo2ForCausalLM
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "a.png")
    image = ImageFile(key="a.png", path=tmp_path / "a.png")
    prompt = "USER: <image>\nWhat color is the {}? ASSISTANT:"
    requests = [
        Request(
            key=thing,
            prompt_ids=np.array(tokenizer_image_token(prompt.format(thing), parts[0]), np.int32),
            images=(image,),
            generation=GenerationConfig(max_new_tokens=8),
        )
        for thing in ("dog", "cat on the table", "boat", "tree near the house")
    ]
    engine = PackedEngine(*parts, replay="off")
    together = {result.key: result for result in engine.run(requests)}
    assert engine.stats.num_packed == len(requests)
    answers = set()
    for alone in SequentialEngine(*parts).run(requests):
        result = together[alone.key]
        assert isinstance(result, Completion)
        assert isinstance(alone, Completion)
        assert result.token_ids == alone.token_ids
        answers.add(alone.token_ids)
    assert len(answers) > 1


def test_zoo_entry_of_the_page_is_a_model() -> None:
    entry = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0])
    assert ModelConfig(**entry).name == "my-llava"
    for option in re.findall(r"`(\w+):`", TEXT):
        assert hasattr(ModelConfig(**entry), option)


def test_template_of_the_page_is_vicunas(tmp_path: Path) -> None:
    block = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]
    path = tmp_path / "conversation" / "my_format.yaml"
    path.parent.mkdir()
    path.write_text(block, encoding="utf-8")
    use_folders([tmp_path])
    try:
        prompt = render_question("my_format", "Why?", 1)
    finally:
        use_folders([])
    system = "A chat between a curious user and an assistant."
    assert prompt == f"{system} USER: <image>\nWhy? ASSISTANT:"
