"""A model is named by its folder."""

import pytest

from llava.mm_utils import get_model_name_from_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/llava-v1.5-7b", "llava-v1.5-7b"),
        ("/models/llava-v1.5-7b/", "llava-v1.5-7b"),
        ("llava-v1.5-7b", "llava-v1.5-7b"),
        ("/runs/tuned/checkpoint-1000", "tuned_checkpoint-1000"),
        ("checkpoint-1000", "checkpoint-1000"),
        ("/runs/my-checkpoint-1000", "my-checkpoint-1000"),
    ],
)
def test_name_is_the_last_part_of_the_path(path, name):
    assert get_model_name_from_path(path) == name
