"""Impossible ways to generate are refused where they are written down."""

import dataclasses
import pickle

import numpy as np
import pytest

from llava.generation.request import GenerationConfig, Request


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("num_beams", 0),
    ],
)
def test_value_out_of_range_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=f"`{option}` must be .*, but is {value}"):
        GenerationConfig(**{option: value})


def test_beams_that_are_sampled_are_refused():
    with pytest.raises(
        ValueError, match="`num_beams` must be 1 where tokens are sampled, but is 3"
    ):
        GenerationConfig(num_beams=3, temperature=0.2)
    assert GenerationConfig(num_beams=3).num_beams == 3


@pytest.mark.parametrize(("temperature", "sampled"), [(0.0, False), (0.2, True)])
def test_temperature_decides_whether_tokens_are_sampled(temperature, sampled):
    assert GenerationConfig(temperature=temperature).do_sample is sampled


def test_request_goes_to_another_process_as_it_is():
    request = Request(key="1", prompt_ids=np.array([1, -200, 5], dtype=np.int32))
    received = pickle.loads(pickle.dumps(request))
    assert received.prompt_ids.tolist() == [1, -200, 5]
    assert received.prompt_ids.dtype == np.int32
    assert received.generation == GenerationConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        received.key = "2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 2}, "`max_new_tokens` must be 1 where a request has choices, but is 2"),
        ({"temperature": 0.5}, "`temperature` must be 0 where a request has choices, but is 0.5"),
        ({"num_beams": 3}, "`num_beams` must be 1 where a request has choices, but is 3"),
    ],
)
def test_choices_are_not_sampled_searched_or_followed_by_more(options, message):
    generation = GenerationConfig(**{"max_new_tokens": 1, **options})
    ids = np.array([1], dtype=np.int32)
    Request(key="1", prompt_ids=ids, generation=generation)
    with pytest.raises(ValueError, match=message):
        Request(key="1", prompt_ids=ids, generation=generation, choices=(5, 6))


def test_choices_with_one_token_are_refused():
    with pytest.raises(ValueError, match="`choices` must be different tokens"):
        Request(
            key="1",
            prompt_ids=np.array([1], dtype=np.int32),
            generation=GenerationConfig(max_new_tokens=1),
            choices=(5, 5),
        )
