"""Planning: every request exactly once, budgets kept, groups whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.generation.plan import (
    MAX_PADDED,
    USUAL_NEW_TOKENS,
    Pack,
    group_key,
    halve,
    padded_share,
    plan_packs,
    prefix_end,
    split_passes,
    without,
)
from llava.generation.request import GenerationConfig, Request

NUM_IMAGE_TOKENS = 16
WIDTH = 4096


@dataclass(frozen=True)
class NamedImage:
    """An image of which planning sees nothing but the name."""

    key: str

    def open(self) -> None:
        raise AssertionError("planning opens no image")


def build_request(key: str, ids: list[int], images: tuple[str, ...] = (), new: int = 8) -> Request:
    return Request(
        key=key,
        prompt_ids=np.array(ids, dtype=np.int32),
        images=tuple(NamedImage(name) for name in images),
        generation=GenerationConfig(max_new_tokens=new),
    )


@st.composite
def request_lists(draw: st.DrawFn) -> list[Request]:
    requests = []
    for i in range(draw(st.integers(0, 30))):
        names = draw(st.lists(st.sampled_from("abc"), max_size=2))
        suffix = draw(st.lists(st.integers(3, 6), max_size=12))
        ids = [1, 5, *[-200] * len(names), *suffix]
        requests.append(build_request(str(i), ids, tuple(names), draw(st.integers(1, 200))))
    return requests


@given(request_lists(), st.integers(1, 400), st.integers(1, 4))
def test_every_request_is_planned_once_within_the_budget(
    requests: list[Request], max_tokens: int, max_rows: int
) -> None:
    packs = plan_packs(
        requests,
        max_tokens=max_tokens,
        max_rows=max_rows,
        num_image_tokens=NUM_IMAGE_TOKENS,
        width=WIDTH,
    )
    planned = [request.key for pack in packs for request in pack.requests]
    assert sorted(planned) == sorted(request.key for request in requests)
    for pack in packs:
        assert len(pack.rows) <= max_rows
        assert pack.cost <= max_tokens or len(pack.requests) == 1
        for row in pack.rows:
            check_row(row.requests, row.prefix_length)


@given(request_lists().filter(bool), st.one_of(st.none(), st.integers(1, 200)))
def test_passes_take_every_row_once_with_little_padding(
    requests: list[Request], max_tokens: int | None
) -> None:
    packs = plan_packs(
        requests, max_tokens=800, max_rows=16, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    for pack in packs:
        passes = split_passes(pack.rows, max_tokens)
        assert [row for rows in passes for row in rows] == list(range(len(pack.rows)))
        for rows in passes:
            joined = pack.rows[rows.start : rows.stop]
            assert padded_share(joined) <= MAX_PADDED
            assert len({row.suffix_tokens > 0 for row in joined}) == 1
            num_tokens = len(joined) * max(row.num_tokens for row in joined)
            assert max_tokens is None or num_tokens <= max_tokens or len(joined) == 1


def test_rows_of_like_length_go_through_their_prompts_together() -> None:
    requests = [build_request(str(i), [1, -200, *range(3, 3 + i)], (str(i),)) for i in range(30)]
    (pack,) = plan_packs(requests, max_tokens=10**9, max_rows=64, num_image_tokens=16, width=WIDTH)
    assert len(pack.rows) == 30
    assert len(split_passes(pack.rows, None)) < 10


@pytest.mark.parametrize(("width", "num_rows"), [(4096, 1), (64, 1), (16, 3), (1, 12)])
def test_groups_are_cut_where_another_prefix_is_cheaper(width: int, num_rows: int) -> None:
    requests = [build_request(str(i), [1, -200, 100 + i, *range(3, 12)], ("a",)) for i in range(12)]
    packs = plan_packs(requests, max_tokens=10**9, max_rows=64, num_image_tokens=16, width=width)
    rows = [row for pack in packs for row in pack.rows]
    assert [len(row.requests) for row in rows] == [12 // num_rows] * num_rows


def check_row(requests: tuple[Request, ...], prefix_length: int) -> None:
    first = requests[0]
    assert prefix_length >= prefix_end(first.prompt_ids)
    for request in requests:
        assert request.images == first.images
        assert (request.prompt_ids[:prefix_length] == first.prompt_ids[:prefix_length]).all()
    if len(requests) == 1:
        assert prefix_length == len(first.prompt_ids)
    else:
        assert all(len(request.prompt_ids) > prefix_length for request in requests)


@given(request_lists())
def test_groups_stay_whole_under_a_large_budget(requests: list[Request]) -> None:
    packs = plan_packs(
        requests, max_tokens=10**9, max_rows=4, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    rows = [row for pack in packs for row in pack.rows]
    keys = [group_key(row.requests[0]) for row in rows]
    assert len(keys) == len(set(keys))


@given(request_lists().filter(bool))
def test_halving_keeps_every_request_and_ends(requests: list[Request]) -> None:
    packs = plan_packs(
        requests, max_tokens=10**9, max_rows=8, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    for pack in packs:
        halves = halve(pack)
        if len(pack.requests) == 1:
            assert halves == []
            continue
        assert len(halves) == 2
        assert [r.key for half in halves for r in half.requests] == [r.key for r in pack.requests]
        assert all(half.requests for half in halves)


def test_shared_words_behind_the_image_belong_to_the_prefix() -> None:
    requests = [build_request(str(i), [1, -200, 7, 8, 20 + i], ("a",)) for i in range(3)]
    (pack,) = plan_packs(
        requests, max_tokens=1000, max_rows=1, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    (row,) = pack.rows
    assert row.prefix_length == 4
    assert row.prefix_tokens == 4 - 1 + NUM_IMAGE_TOKENS
    assert row.num_tokens == row.prefix_tokens + 3


def test_equal_prompts_keep_one_token_each_for_themselves() -> None:
    requests = [build_request(str(i), [1, -200, 7, 8], ("a",)) for i in range(2)]
    (pack,) = plan_packs(
        requests, max_tokens=1000, max_rows=1, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    assert pack.rows[0].prefix_length == 3


def test_prompt_that_ends_with_its_image_stays_alone() -> None:
    requests = [build_request(str(i), [1, -200], ("a",)) for i in range(2)]
    packs = plan_packs(
        requests, max_tokens=1000, max_rows=1, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    assert [len(pack.requests) for pack in packs] == [1, 1]


def test_long_answers_take_no_more_room_than_usual_ones() -> None:
    (pack,) = plan_packs(
        [build_request("a", [1, 2, 3], new=1024)],
        max_tokens=10,
        max_rows=1,
        num_image_tokens=0,
        width=WIDTH,
    )
    assert pack.cost == 3 + USUAL_NEW_TOKENS


@pytest.mark.parametrize(("keys", "left"), [(set(), "012"), ({"1"}, "02"), ({"0", "1", "2"}, "")])
def test_requests_can_be_taken_out_of_a_pack(keys: set[str], left: str) -> None:
    requests = [build_request(str(i), [1, -200, 7, 20 + i], ("a",)) for i in range(3)]
    (pack,) = plan_packs(
        requests, max_tokens=1000, max_rows=1, num_image_tokens=NUM_IMAGE_TOKENS, width=WIDTH
    )
    rest = without(pack, keys)
    assert "".join(r.key for r in rest.requests) == left if rest else left == ""
    if rest is not None:
        assert isinstance(rest, Pack)
        assert rest.rows[0].prefix_tokens == pack.rows[0].prefix_tokens
