"""Manifests of earlier versions hold exactly these fields: what is composed must be equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evals.benchmark import GENERATE, RANK
from llava.conversation import conv_templates, first_name
from llava.generation.request import GenerationConfig
from llava.template_choice import _NAME_RULES, resolve_conversation
from runners.evaluation.identity import ModelIdentity, compose_identity, engine_identity
from runners.options.conf_files import list_choices, read_choice
from runners.options.engine import EngineOptions, PackedOptions, SequentialOptions
from runners.options.model import QuantizationConfig
from runners.storage.identity import differences, prompt_format

MODEL = ModelIdentity(
    name="llava-demo",
    files={
        "checkpoint": {"config.json": "b2", "weights": "e5"},
        "tower": {"config.json": "8c", "weights": "a9"},
    },
    conversation="vicuna_v1",
    dtype="float32",
    quantization=QuantizationConfig(),
    engine=engine_identity(PackedOptions()),
)
QUESTIONS = {
    "prompts": "e1",
    "data": {"demo_questions.json": "ca"},
    "generation": GenerationConfig(max_new_tokens=16, seed=3),
}
OF_QUESTIONS = {
    "prompt_version": 1,
    "prompt_format": prompt_format("vicuna_v1"),
    "prompts": "e1",
    "data": {"demo_questions.json": "ca"},
    "generation": {"temperature": 0.0, "top_p": None, "num_beams": 1, "max_new_tokens": 16},
    "seed": 3,
}


@pytest.mark.parametrize(
    "change",
    [{"system": "Be brief."}, {"sep": "\n"}, {"roles": ("U", "A")}, {"messages": [["USER", "Hi"]]}],
)
def test_template_that_is_edited_is_another_one(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compose_identity(MODEL, **QUESTIONS)
    edited = replace(conv_templates["vicuna_v1"], **change)
    monkeypatch.setitem(conv_templates, "vicuna_v1", edited)
    now = compose_identity(MODEL, **QUESTIONS)
    assert list(differences(before, now)) == ["prompt_format"]
    del before["prompt_format"]  # as in manifests of earlier versions
    assert not differences(before, now)


@pytest.mark.parametrize(
    ("one", "other"), [("v1", "vicuna_v1"), ("qwen_2", "qwen_1_5"), ("default", "v0")]
)
def test_names_of_one_template_are_one(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compose_identity(replace(MODEL, conversation=one), **QUESTIONS)
    now = compose_identity(replace(MODEL, conversation=other), **QUESTIONS)
    assert not differences(before, now)
    different = compose_identity(replace(MODEL, conversation="llama_2"), **QUESTIONS)
    assert differences(before, different) == {"conversation": (first_name(one), "llama_2")}
    edited = replace(conv_templates[other], sep="?")  # and both of its names
    for name in (one, other):
        monkeypatch.setitem(conv_templates, name, edited)
    now = compose_identity(replace(MODEL, conversation=other), **QUESTIONS)
    assert list(differences(before, now)) == ["prompt_format"]


def test_templates_with_one_text_are_one_format() -> None:
    assert prompt_format("v1") == prompt_format("vicuna_v1")
    assert prompt_format("llava_v1") != prompt_format("llama_2")


def test_identity_of_a_checkpoint() -> None:
    assert compose_identity(MODEL, **QUESTIONS) == {
        "model": "llava-demo",
        "checkpoint": {"config.json": "b2", "weights": "e5"},
        "tower": {"config.json": "8c", "weights": "a9"},
        "conversation": "vicuna_v1",
        "dtype": "float32",
        "attention": "default",
        "vision_tower_dtype": None,
        "tf32": False,
        "quantization": None,
        "engine": {"replay": "near_ties"},
        **OF_QUESTIONS,
    }


def test_identity_of_a_model_in_memory() -> None:
    model = ModelIdentity(
        name="step-500",
        files={"in_process": {"weights": "0f", "autocast": None}},
        conversation="vicuna_v1",
        dtype="bfloat16",
        vision_tower_dtype="float32",
        engine=engine_identity(PackedOptions(replay="off")),
    )
    assert compose_identity(model, **QUESTIONS) == {
        "model": "step-500",
        "in_process": {"weights": "0f", "autocast": None},
        "conversation": "vicuna_v1",
        "dtype": "bfloat16",
        "attention": "default",
        "vision_tower_dtype": "float32",
        "tf32": False,
        "quantization": None,
        "engine": {"replay": "off"},
        **OF_QUESTIONS,
    }


def test_attention_that_was_asked_for_is_of_another_run() -> None:
    default = compose_identity(MODEL, **QUESTIONS)
    eager = compose_identity(replace(MODEL, attention="eager"), **QUESTIONS)
    assert differences(default, eager) == {"attention": ("default", "eager")}
    del default["attention"]  # as in manifests of earlier versions
    assert not differences(default, eager)


def test_ranked_answers_are_those_of_another_run() -> None:
    generated, ranked = (compose_identity(MODEL, **QUESTIONS, answer=a) for a in (GENERATE, RANK))
    assert generated == compose_identity(MODEL, **QUESTIONS)  # as manifests of earlier versions
    assert list(differences(generated, ranked)) == ["answer"]


def test_quantization_stands_there_with_its_options() -> None:
    model = replace(MODEL, quantization=QuantizationConfig(name="nf4"))
    expected = {"name": "nf4", "double_quant": True, "compute_dtype": None}
    assert compose_identity(model, **QUESTIONS)["quantization"] == expected


@pytest.mark.parametrize(
    ("engine", "identity"),
    [
        (SequentialOptions(), {"replay": "near_ties"}),
        (PackedOptions(replay="all", max_tokens=8), {"replay": "near_ties"}),
        (PackedOptions(replay="off", near_tie_threshold=0.5), {"replay": "off"}),
        (
            PackedOptions(near_tie_threshold=0.5),
            {"replay": "near_ties", "near_tie_threshold": 0.5},
        ),
    ],
)
def test_engine_counts_as_far_as_it_can_change_an_answer(
    engine: EngineOptions, identity: dict[str, object]
) -> None:
    assert engine_identity(engine) == identity


def test_rules_and_zoo_name_templates_by_the_name_that_runs_are_known_by() -> None:
    named = {template for _, template in _NAME_RULES if template}
    for name in list_choices("model"):
        entry = read_choice("model", name)
        named.add(entry.get("conversation", "") if entry else "")
    for template in named - {""}:
        assert resolve_conversation(forced=template, zoo=None, names=[]) == (template, "asked for")
