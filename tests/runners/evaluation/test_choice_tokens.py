"""The token of a choice is the one with which an answer would begin in that template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evals.records import Cause, Failure, Sample
from llava.generation.request import GenerationConfig, Request
from llava.tokenizer import load_tokenizer
from runners.errors import ConfigError
from runners.evaluation.prompts import PromptRenderer
from tests.demo_questions import DEMO

LETTERS = tuple("ABCDE")
ONE = GenerationConfig(max_new_tokens=1)
MARKS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"]
MARKS += ["<|start_header_id|>", "<|end_header_id|>"]


@pytest.fixture(scope="module")
def sentencepiece() -> Any:
    return load_tokenizer(DEMO)


def byte_level(*merges: tuple[str, str], use_regex: bool = True) -> Any:
    """Bytes and a few merges of them, as Qwen and Llama 3 have many."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *("".join(merge) for merge in merges)]
    model = models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=list(merges))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(MARKS)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


def sample(*choices: str, text: str = "Which?\nA. x\nB. y") -> Sample:
    return Sample(key="q7", question_id=7, text=text, prompt=text, choices=choices)


def pieces(template: str, tokenizer: Any, *choices: str) -> list[str]:
    found = PromptRenderer(template, tokenizer).find_choices(sample(*choices))
    return list(tokenizer.convert_ids_to_tokens(list(found)))


@pytest.mark.parametrize("template", ["vicuna_v1", "mistral_instruct", "llava_llama_2", "llava_v0"])
def test_blank_in_front_of_an_answer_belongs_to_its_token(
    template: str, sentencepiece: Any
) -> None:
    assert pieces(template, sentencepiece, *LETTERS) == ["▁A", "▁B", "▁C", "▁D", "▁E"]
    merges = [("Ġ", letter) for letter in LETTERS]
    assert pieces(template, byte_level(*merges), *LETTERS) == ["ĠA", "ĠB", "ĠC", "ĠD", "ĠE"]


@pytest.mark.parametrize("template", ["plain", "qwen_1_5", "llava_llama_3"])
def test_answer_on_a_line_of_its_own_begins_with_the_bare_letter(
    template: str, sentencepiece: Any
) -> None:
    assert pieces(template, sentencepiece, *LETTERS) == list(LETTERS)
    assert pieces(template, byte_level(*[("Ġ", "A")]), *LETTERS) == list(LETTERS)


def test_request_has_the_tokens_and_the_prompt_of_any_other(sentencepiece: Any) -> None:
    renderer = PromptRenderer("vicuna_v1", sentencepiece)
    ranked, usual = (renderer.build_request(sample(*c), ONE) for c in (("B", "A"), ()))
    assert isinstance(ranked, Request)
    assert isinstance(usual, Request)
    assert sentencepiece.convert_ids_to_tokens(list(ranked.choices)) == ["▁B", "▁A"]
    assert usual.choices == ()
    assert np.array_equal(ranked.prompt_ids, usual.prompt_ids)


@pytest.mark.parametrize(
    ("template", "tokenizer", "reason"),
    [
        ("vicuna_v1", byte_level(), "'A' and 'B' begin with the same token"),
        (
            "plain",
            byte_level(("Ċ", "B"), use_regex=False),
            "'B' does not begin with a token of its own",
        ),
    ],
    ids=["blank of its own", "merged with the prompt"],
)
def test_choices_that_cannot_be_told_apart_are_refused(
    template: str, tokenizer: Any, reason: str
) -> None:
    renderer = PromptRenderer(template, tokenizer)
    with pytest.raises(ConfigError, match=f"question q7 cannot .*{template}, {reason}"):
        renderer.find_choices(sample("A", "B"))
    with pytest.raises(ConfigError, match="Set `answer` of the task to generate"):
        renderer.build_request(sample("A", "B"), ONE)


def test_single_choice_is_refused_where_its_token_is_only_the_blank() -> None:
    renderer = PromptRenderer("vicuna_v1", byte_level())
    with pytest.raises(ConfigError, match="'A' begins with the token ''"):
        renderer.find_choices(sample("A"))


def test_one_question_of_each_set_of_choices_is_looked_at() -> None:
    tokenizer = byte_level(*[("Ġ", letter) for letter in "AB"])
    renderer = PromptRenderer("vicuna_v1", tokenizer)
    renderer.require_choices([sample(), sample("A"), sample("A", "B")])
    with pytest.raises(ConfigError, match="'C' begins with the token ''"):
        renderer.require_choices([sample("A", "B"), sample("A", "B", "C")])


def test_untrained_vocabulary_without_letters_is_refused(tiny_checkpoint: Path) -> None:
    renderer = PromptRenderer("vicuna_v1", load_tokenizer(tiny_checkpoint))
    with pytest.raises(ConfigError, match="question q7 cannot be ranked"):
        renderer.find_choices(sample(*LETTERS))


def test_question_that_cannot_be_read_is_not_asked_for_its_choices(sentencepiece: Any) -> None:
    renderer = PromptRenderer("vicuna_v1", sentencepiece)
    broken = sample("A", "A B", text="Which \ud800?")
    renderer.require_choices([broken])
    failure = renderer.build_request(broken, ONE)
    assert isinstance(failure, Failure)
    assert failure.cause == Cause.TEXT_UNREADABLE
    with pytest.raises(ConfigError, match="begin with the same token"):
        renderer.require_choices([sample("A", "A B"), broken])
