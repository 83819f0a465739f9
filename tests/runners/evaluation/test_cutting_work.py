from __future__ import annotations

import heapq
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.reading.images import ImageFile
from evals.records import Sample
from llava.generation.request import GenerationConfig
from runners.evaluation.work import MAX_TOKENS, Work, cut_into_pieces
from runners.options.shard import Shard, read_shard
from runners.storage.asked import estimate_tokens, group_by_images, shard_samples
from tests.runners.task_runs import estimate_piece

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


def benchmark(*sizes: int) -> list[Sample]:
    """Questions about as many images as there are sizes, asked in turn."""
    return [
        sample(f"{image}-{number}", str(image))
        for number in range(max(sizes))
        for image, size in enumerate(sizes)
        if number < size
    ]


@given(
    images=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=60),
    count=st.integers(1, 7),
)
def test_every_question_is_in_one_shard_in_order_with_its_image(
    images: list[str], count: int
) -> None:
    samples = [sample(str(i), *([name] if name else [])) for i, name in enumerate(images)]
    shards = [shard_samples(samples, index, count) for index in range(1, count + 1)]
    assert sorted(s.key for shard in shards for s in shard) == sorted(s.key for s in samples)
    for shard in shards:
        assert shard == [s for s in samples if s in shard]
    for image in "abcd":
        assert sum(any(s.image_keys == (image,) for s in shard) for shard in shards) <= 1


@pytest.mark.parametrize(
    ("sizes", "count"),
    [((1,) * 101, 4), ((30,) + (5,) * 80, 3), (tuple(range(1, 60)), 8), ((20,) * 16, 16)],
)
def test_shards_are_of_about_equal_cost(sizes: tuple[int, ...], count: int) -> None:
    samples = benchmark(*sizes)
    costs = [
        sum(estimate_tokens(g, NUM_IMAGE_TOKENS) for g in group_by_images(shard))
        for shard in (shard_samples(samples, index, count) for index in range(1, count + 1))
    ]
    largest_group = estimate_tokens([sample("0", "0")] * max(sizes), NUM_IMAGE_TOKENS)
    assert max(costs) - min(costs) <= largest_group


def test_more_shards_than_images_leave_some_empty() -> None:
    shards = [shard_samples(benchmark(3, 2), index, 4) for index in range(1, 5)]
    assert [len(shard) for shard in shards] == [3, 2, 0, 0]


@pytest.mark.parametrize(
    ("text", "shard"),
    [
        (None, None),
        ("1/1", Shard(index=1, count=1)),
        ("1/4", Shard(index=1, count=4)),
        ("16/16", Shard(index=16, count=16)),
    ],
)
def test_shard_is_read(text: str | None, shard: Shard | None) -> None:
    assert read_shard(text) == shard


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "a/b", "-1/4", "1/4/2", "", 0.25])
def test_shard_that_does_not_exist_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"`runner\.shard` must be"):
        read_shard(text)


def test_group_with_more_than_a_piece_may_have_is_split_evenly() -> None:
    group = [sample(str(number), "a") for number in range(3000)]
    pieces = list(cut_into_pieces(group, num_image_tokens=576))
    assert [s.key for piece in pieces for s in piece] == [s.key for s in group]
    assert len(pieces) > 5
    assert max(map(len, pieces)) - min(map(len, pieces)) <= len(pieces)
    assert all(estimate_piece(piece, 576) <= MAX_TOKENS + 1000 for piece in pieces)


def test_groups_of_like_length_come_together() -> None:
    sizes = [1, 30, 2, 29, 3, 28]
    samples = [
        sample(f"{image}.{n}", f"{image}") for image in range(6) for n in range(sizes[image])
    ]
    pieces = list(cut_into_pieces(samples, num_image_tokens=0, max_tokens=1_000))
    found = [len(group) for piece in pieces for group in group_by_images(piece)]
    assert found == sorted(sizes, reverse=True)


def schedule(costs: list[int], num_workers: int) -> float:
    """By how much the last worker is later than all would be if nothing could be unequal.

    As the pool deals: each worker has one item more than it computes, while there is enough.
    """
    waiting, queues = deque(costs), [deque[int]() for _ in range(num_workers)]
    busy = [(0.0, worker) for worker in range(num_workers)]
    last = 0.0
    while busy:
        now, worker = heapq.heappop(busy)
        ahead = 2 if len(waiting) > 2 * num_workers else 1
        while waiting and len(queues[worker]) < ahead:
            queues[worker].append(waiting.popleft())
        if queues[worker]:
            last = now + queues[worker].popleft()
            heapq.heappush(busy, (last, worker))
    return last * num_workers / sum(costs)


@pytest.mark.few_cases(3)
@pytest.mark.parametrize("num_workers", [1, 2, 8])
@pytest.mark.parametrize("pack_tokens", [8_192, 65_536])
@pytest.mark.parametrize("sizes", [(30,) * 600, (5,) * 4_000, (1,) * 8_000])
def test_pieces_fill_packs_and_let_all_workers_end_together(
    sizes: tuple[int, ...], pack_tokens: int, num_workers: int
) -> None:
    work = Work(
        samples=benchmark(*sizes),
        renderer=None,  # type: ignore[arg-type] - nothing is rendered
        generation=GenerationConfig(),
        num_image_tokens=NUM_IMAGE_TOKENS,
        num_workers=num_workers,
        pack_tokens=pack_tokens,
    )
    costs = [estimate_piece(piece, NUM_IMAGE_TOKENS) for piece in work._pieces(work.samples)]
    most = max(MAX_TOKENS, 2 * pack_tokens)
    largest_group = estimate_tokens([sample("0", "0")] * max(sizes), NUM_IMAGE_TOKENS)
    assert costs[0] <= MAX_TOKENS  # which is soon there
    share = min(most, sum(costs) // (8 * num_workers))
    assert share - largest_group <= max(costs) <= most
    assert schedule(costs, num_workers) <= 1.01
