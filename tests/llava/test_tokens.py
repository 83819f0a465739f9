"""Prompts with placeholders become ids, chunk by chunk."""

from types import SimpleNamespace

import pytest
import sentencepiece
import torch

from llava.constants import IMAGE_TOKEN_INDEX
from llava.tokenizer import load_tokenizer
from llava.tokens import tokenizer_image_token

IMAGE = IMAGE_TOKEN_INDEX


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return load_tokenizer(tiny_checkpoint)


@pytest.fixture(scope="module")
def sentencepiece_ids(tiny_checkpoint):
    model = sentencepiece.SentencePieceProcessor(str(tiny_checkpoint / "tokenizer.model"))
    return model.encode


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("What is it?", ["What is it?"]),
        ("<image>", ["", ""]),
        ("<image>\nWhat is it?", ["", "\nWhat is it?"]),
        ("USER: <image>\nWhat? ASSISTANT:", ["USER: ", "\nWhat? ASSISTANT:"]),
        ("Is <image><image> red?", ["Is ", "", " red?"]),
        ("<image> or <image>", ["", " or ", ""]),
        ("", [""]),
        ("<im_start><image><im_end>", ["<im_start>", "<im_end>"]),
        ("<Image> <image >", ["<Image> <image >"]),
    ],
)
def test_every_chunk_is_tokenized_alone_and_only_the_first_keeps_its_begin(
    tokenizer, sentencepiece_ids, prompt, parts
):
    first, *rest = [sentencepiece_ids(part) for part in parts]
    expected = [1, *first]
    for chunk in rest:
        expected += [IMAGE, *chunk]
    assert tokenizer_image_token(prompt, tokenizer) == expected


def test_tensor_holds_the_same_ids(tokenizer):
    ids = tokenizer_image_token("Is <image> red?", tokenizer, return_tensors="pt")
    assert ids.dtype == torch.long
    assert ids.tolist() == tokenizer_image_token("Is <image> red?", tokenizer)


def test_placeholder_id_can_be_chosen(tokenizer):
    assert tokenizer_image_token("<image>", tokenizer, -7) == [1, -7]


def test_other_tensors_are_refused(tokenizer):
    with pytest.raises(ValueError, match="`return_tensors` must be None or 'pt', but is 'np'"):
        tokenizer_image_token("dog", tokenizer, return_tensors="np")


def test_tokenizer_that_adds_no_begin_loses_no_token():
    def letters(text):
        return SimpleNamespace(input_ids=[ord(letter) for letter in text])

    letters.bos_token_id = 1
    assert tokenizer_image_token("ab<image>cd", letters) == [97, 98, IMAGE, 99, 100]
    assert tokenizer_image_token("<image>cd", letters) == [IMAGE, 99, 100]


def test_any_callable_that_adds_a_begin_token_will_do():
    def letters(text):
        return SimpleNamespace(input_ids=[1, *(ord(letter) for letter in text)])

    letters.bos_token_id = 1
    assert tokenizer_image_token("ab<image><image>c", letters) == [1, 97, 98, IMAGE, IMAGE, 99]
