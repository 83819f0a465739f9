"""Whatever wraps it: asked as the model itself, and given back as it was."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from runners.errors import ConfigError
from runners.in_training.lent_model import require_known_class
from tests.checkpoints import LoadedModel
from tests.demo_questions import load_demo
from tests.runners.in_training.conftest import answers_hash, ask


def with_peft(model: Any, config: Any) -> Any:
    with warnings.catch_warnings():
        # peft on transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


def lora(model: Any) -> Any:
    model.enable_input_require_grads()  # as with gradient checkpointing
    config = LoraConfig(r=4, target_modules=["q_proj"], exclude_modules=".*vision_tower.*")
    return with_peft(model, config)


def mixed_precision(model: Any) -> Any:
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(model)
    assert "_original_forward" in vars(prepared)
    return prepared


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "lora": lora,
    "mixed precision": mixed_precision,
    "data parallel": torch.nn.DataParallel,
    "compiled": torch.compile,
    "compiled lora": lambda model: torch.compile(lora(model)),
}


@pytest.mark.few_cases(1)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("engine", ["packed", "sequential"])
def test_wrapped_model_answers_as_the_model_itself(
    demo: LoadedModel, fresh: LoadedModel, wrapper: str, engine: str
) -> None:
    wrapped = WRAPPERS[wrapper](fresh.model).train()
    summaries = ask(fresh, model=wrapped, engine=engine, limit=12)
    assert answers_hash(summaries) == answers_hash(ask(demo, limit=12))
    assert summaries["gqa"]["coverage"] == 1


@pytest.mark.slow
def test_autocast_answers_as_in_mixed_training(fresh: LoadedModel) -> None:
    model = mixed_precision(fresh.model)
    packed, sequential = (
        ask(fresh, model=model, autocast="bfloat16", engine=engine, limit=40)
        for engine in ("packed", "sequential")
    )
    assert answers_hash(packed) == answers_hash(sequential)
    # near ties are measured, as for weights of that dtype
    assert packed["gqa"]["batch_check"]["recomputed"] >= 2


def train(loaded: LoadedModel, *, evaluated: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Three steps with dropout, an evaluation after the first if asked for."""
    torch.manual_seed(0)
    model = loaded.model
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    model.get_vision_tower().eval()
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.tensor([[1, -200, *range(300, 340)]])
    losses = []
    for step in range(3):
        images = torch.rand(1, 3, 48, 48)
        loss = model(input_ids=ids, labels=ids.clamp(min=-100), images=images).loss
        loss.backward()
        if evaluated and step == 1:
            ask(loaded, limit=6)  # between the backward pass and the step
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()) + random.random() + float(np.random.rand()))
    return losses, model.state_dict()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_training_goes_on_as_if_nothing_had_been_asked() -> None:
    results = []
    for evaluated in (False, True):
        random.seed(0)
        np.random.seed(0)
        results.append(train(load_demo(torch.float32), evaluated=evaluated))
    (losses, weights), (other_losses, other_weights) = results
    assert losses == other_losses
    assert all(torch.equal(tensor, other_weights[name]) for name, tensor in weights.items())


def test_model_is_given_back_as_it_was(fresh: LoadedModel) -> None:
    model = mixed_precision(fresh.model)
    model.train()
    model.get_vision_tower().eval()
    model.config.use_cache = False
    model.generation_config.use_cache = None
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32"
    try:
        before = {name: module.training for name, module in model.named_modules()}
        forward = model.forward
        summary = ask(fresh, model=model, limit=2)
        assert answers_hash(summary)
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = "none"
    assert {name: module.training for name, module in model.named_modules()} == before
    assert len(set(before.values())) == 2
    assert model.forward == forward
    assert (model.config.use_cache, model.generation_config.use_cache) == (False, None)
    assert not torch.is_inference_mode_enabled()
    assert all(not parameter.is_inference() for parameter in model.parameters())


def test_rotations_go_on_from_what_the_training_has_seen(fresh: LoadedModel) -> None:
    text = fresh.model.config
    text.rope_parameters = {**text.rope_parameters, "rope_type": "dynamic", "factor": 4.0}
    text.max_position_embeddings = 16
    rotary = fresh.model.model.rotary_emb = LlamaRotaryEmbedding(text)
    fresh.model.train()(input_ids=torch.arange(300, 340)[None])
    before = (rotary.inv_freq, rotary.max_seq_len_cached)
    assert before[1] == 40
    ask(fresh, limit=2)
    assert rotary.inv_freq is before[0]
    assert rotary.max_seq_len_cached == 40


def test_model_is_given_back_when_an_evaluation_fails(fresh: LoadedModel) -> None:
    fresh.model.train()
    with pytest.raises(ConfigError, match="max_rowz"):
        ask(fresh, engine={"max_rowz": 3}, limit=2)
    assert fresh.model.training


def sharded(model: Any) -> Any:
    next(model.parameters()).ds_id = 0  # as ZeRO 3 marks what it has parted
    return model


def prompted(model: Any) -> Any:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    return with_peft(model, config)


@pytest.mark.parametrize(("wrap", "message"), [(sharded, "sharded"), (prompted, "prompts")])
def test_models_that_cannot_be_asked_are_refused(
    fresh: LoadedModel, wrap: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(fresh, model=wrap(fresh.model))


class ForeignLlava(torch.nn.Module):
    """As another package's LLaVA looks from outside."""

    config = PretrainedConfig()

    def get_vision_tower(self) -> torch.nn.Module:
        return torch.nn.Identity()


class DerivedLlava(LlavaForConditionalGeneration):
    """Of a training that computes something of its own."""


def derived_llava() -> torch.nn.Module:
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = LlamaConfig(**small, intermediate_size=8, vocab_size=16)
    vision = CLIPVisionConfig(**small, intermediate_size=8, image_size=28, patch_size=14)
    return DerivedLlava(LlavaConfig(text_config=text, vision_config=vision))


@pytest.mark.parametrize("make", [derived_llava, ForeignLlava])
def test_other_class_that_sees_is_refused_by_its_name(
    fresh: LoadedModel, make: Callable[[], torch.nn.Module]
) -> None:
    model = make()
    with pytest.raises(ConfigError, match=f"{type(model).__name__} of .*load_pretrained_model"):
        ask(fresh, model=model)


def test_language_model_without_images_is_of_any_class(demo: LoadedModel) -> None:
    require_known_class(
        LlamaForCausalLM(
            LlamaConfig(
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                vocab_size=16,
                num_attention_heads=2,
            )
        )
    )
    require_known_class(demo.model)
