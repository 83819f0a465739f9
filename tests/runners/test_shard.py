from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from evals.records import Sample
from evals.sources import ImageFile
from runners.shard import cut_into_pieces, estimate_tokens, group_by_images

NUM_IMAGE_TOKENS = 576


def sample(key: str, *images: str, text: str = "What is it?") -> Sample:
    files = tuple(ImageFile(name, Path(name)) for name in images)
    return Sample(key=key, question_id=key, text=text, prompt=text, images=files)


def keys(groups: list[list[Sample]]) -> list[list[str]]:
    return [[sample.key for sample in group] for group in groups]


def test_questions_with_equal_images_are_one_group() -> None:
    samples = [sample("1", "a"), sample("2", "b"), sample("3", "a"), sample("4", "a", "b")]
    assert keys(group_by_images(samples)) == [["1", "3"], ["2"], ["4"]]


def test_questions_without_images_stay_alone() -> None:
    assert keys(group_by_images([sample("1"), sample("2")])) == [["1"], ["2"]]


def test_images_are_counted_once_a_group() -> None:
    one = estimate_tokens([sample("1", "a")], NUM_IMAGE_TOKENS)
    two = estimate_tokens([sample("1", "a"), sample("2", "a")], NUM_IMAGE_TOKENS)
    assert NUM_IMAGE_TOKENS < one < two < one + NUM_IMAGE_TOKENS


def test_group_larger_than_a_piece_is_not_split() -> None:
    samples = [sample(str(number), "a") for number in range(100)] + [sample("b", "b")]
    pieces = list(cut_into_pieces(samples, NUM_IMAGE_TOKENS, max_tokens=1000))
    assert [len(piece) for piece in pieces] == [100, 1]


@given(
    images=st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=60),
    max_tokens=st.integers(1, 5000),
)
def test_every_question_is_in_one_piece_and_groups_are_whole(
    images: list[str], max_tokens: int
) -> None:
    samples = [
        sample(str(number), *([image] if image else [])) for number, image in enumerate(images)
    ]
    pieces = list(cut_into_pieces(samples, NUM_IMAGE_TOKENS, max_tokens=max_tokens))
    assert sorted(s.key for piece in pieces for s in piece) == sorted(s.key for s in samples)
    for image in ("a", "b", "c"):
        assert sum(any(s.image_keys == (image,) for s in piece) for piece in pieces) <= 1
    for piece in pieces:
        groups = group_by_images(piece)
        size = sum(estimate_tokens(group, NUM_IMAGE_TOKENS) for group in groups)
        assert size <= max_tokens or len(groups) == 1
