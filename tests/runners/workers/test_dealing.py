"""Every request is dealt until it is answered or fails, whatever workers do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.reading.images import ImageFile
from evals.records import Cause, Failure
from llava.generation.request import Request
from runners.errors import WorkerError
from runners.workers.dealing import MAX_FAILURES_IN_A_ROW, MAX_POISONOUS, Dealer
from runners.workers.messages import WorkItem
from runners.workers.slot import MAX_DEATHS_IN_A_ROW


def requests(*keys: str) -> tuple[Request, ...]:
    ids = np.array([1, 2], dtype=np.int32)
    return tuple(Request(key=key, prompt_ids=ids) for key in keys)


def keys(item: WorkItem | None) -> list[str]:
    assert item is not None
    return [request.key for request in item.requests]


def test_items_come_in_their_order_and_are_made_when_they_are_needed() -> None:
    made = []

    def items():
        for name in "abc":
            made.append(name)
            yield requests(name)

    dealer = Dealer(items())
    assert keys(dealer.take()) == ["a"]
    assert made == ["a"]
    assert not dealer.is_through()
    assert [keys(dealer.take()), keys(dealer.take())] == [["b"], ["c"]]
    assert dealer.take() is None


def test_what_was_not_begun_comes_next_and_what_a_worker_died_of_comes_last() -> None:
    dealer = Dealer([requests("a"), requests("b"), requests("c")])
    first, second = dealer.take(), dealer.take()
    assert first is not None
    assert second is not None
    assert dealer.lost(first.number, "worker_died", "gone") == []
    dealer.give_back(second.number)
    assert [keys(dealer.take()) for _ in range(3)] == [["b"], ["c"], ["a"]]


def test_only_the_unanswered_rest_of_an_item_is_asked_again() -> None:
    dealer = Dealer([requests("a", "b", "c")])
    item = dealer.take()
    assert item is not None
    assert dealer.answered(item.number, "b")
    assert not dealer.answered(item.number, "b")
    dealer.lost(item.number, "worker_died", "gone")
    assert not dealer.is_through()
    assert keys(dealer.take()) == ["a", "c"]


def test_item_that_was_through_when_its_worker_died_is_not_asked_again() -> None:
    dealer = Dealer([requests("a")])
    item = dealer.take()
    assert item is not None
    dealer.answered(item.number, "a")
    assert dealer.lost(item.number, "worker_died", "gone") == []
    assert dealer.take() is None


def test_question_that_the_engine_left_out_fails() -> None:
    dealer = Dealer([requests("a", "b")])
    item = dealer.take()
    assert item is not None
    dealer.answered(item.number, "a")
    [failure] = dealer.done(item.number)
    assert (failure.key, failure.cause) == ("b", "error")
    assert not dealer.open


@settings(max_examples=200, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    poison=st.sets(st.integers(0, 60), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_poisonous_questions_are_found_and_all_others_answered(
    sizes: list[int], poison: set[int], order
) -> None:
    numbers = iter(range(sum(sizes)))
    items = [requests(*(str(next(numbers)) for _ in range(size))) for size in sizes]
    dealer = Dealer(items)
    answered: list[str] = []
    failed: list[str] = []
    num_deaths = 0
    while (item := dealer.take()) is not None:
        for request in item.requests:
            if int(request.key) in poison:
                num_deaths += 1
                failed += [f.key for f in dealer.lost(item.number, "worker_died", "gone")]
                break
            if order.random() < 0.5 or len(item.requests) == 1:  # the others were in its pack
                answered.append(request.key)
                assert dealer.answered(item.number, request.key)
        else:
            for request in item.requests:
                if dealer.answered(item.number, request.key):
                    answered.append(request.key)
            assert dealer.done(item.number) == []
    poisonous = {number for number in poison if number < sum(sizes)}
    assert sorted(map(int, failed)) == sorted(poisonous)
    assert sorted(map(int, answered)) == sorted(set(range(sum(sizes))) - poisonous)
    assert dealer.is_through()
    assert num_deaths <= len(poisonous) * (2 + int(np.ceil(np.log2(max(sizes)))) + 1)
    assert not dealer.open


@pytest.mark.parametrize("cause", [Cause.WORKER_DIED, Cause.WORKER_HUNG])
def test_failure_of_a_single_question_says_what_happened(cause: Cause) -> None:
    dealer = Dealer([requests("a")])
    for expected in ([], [Failure(key="a", cause=cause, message="twice")]):
        item = dealer.take()
        assert item is not None
        assert dealer.lost(item.number, cause, "twice") == expected


def test_image_that_ends_workers_costs_a_few_of_them_however_many_questions_it_has() -> None:
    """What dies is what asks about the bad image; an answer about the others comes in one go."""
    ids = np.array([1, -200, 2], dtype=np.int32)
    asked = [
        Request(key=f"{name}{i}", prompt_ids=ids, images=(ImageFile(name, Path(name)),))
        for name in ("good", "bad", "fine")
        for i in range(31)
    ]
    dealer = Dealer([tuple(asked)])
    answered, failed = [], []
    num_deaths = 0
    while (item := dealer.take()) is not None:
        if any(request.images[0].key == "bad" for request in item.requests):
            num_deaths += 1
            failed += dealer.lost(item.number, "worker_died", "gone")
            continue
        answered += [r.key for r in item.requests if dealer.answered(item.number, r.key)]
        assert dealer.done(item.number) == []
    assert sorted(answered) == sorted(r.key for r in asked if not r.key.startswith("bad"))
    assert sorted(f.key for f in failed) == sorted(f"bad{i}" for i in range(31))
    assert {f.cause for f in failed} == {"worker_died"}
    assert sum(f.message == "gone" for f in failed) == MAX_POISONOUS
    assert num_deaths <= MAX_DEATHS_IN_A_ROW // 2


def deal_all(dealer: Dealer, is_bad) -> tuple[list[str], list[str], int]:
    """What is answered and what fails where a worker dies over any pack with a bad question in it.

    The last is how many died at most without a result in between.
    """
    answered: list[str] = []
    failed: list[str] = []
    num_in_a_row, most = 0, 0
    while (item := dealer.take()) is not None:
        if any(is_bad(int(request.key)) for request in item.requests):
            failures = dealer.lost(item.number, Cause.WORKER_DIED, "gone")
            failed += [failure.key for failure in failures]
            num_in_a_row = 0 if failures else num_in_a_row + 1
            most = max(most, num_in_a_row)
        else:
            num_in_a_row = 0
            answered += [r.key for r in item.requests if dealer.answered(item.number, r.key)]
            dealer.done(item.number)
        dealer.require_hope()
    return answered, failed, most


@pytest.mark.parametrize("max_deaths", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "bad"),
    [
        ([30], range(5, 23)),
        ([400], range(120)),
        ([400], range(280, 400)),
        ([40] * 50, range(0, 2000, 40)),  # one in each item: nothing is answered with it
        ([10, 200, 10, 3], range(3, 100)),
        ([1] * 200, range(10, 90)),
    ],
)
def test_many_bad_questions_side_by_side_leave_no_other_unasked(
    sizes: list[int], bad: range, max_deaths: int
) -> None:
    numbers = iter(range(sum(sizes)))
    items = [requests(*(str(next(numbers)) for _ in range(size))) for size in sizes]
    dealer = Dealer(items, max_deaths=max_deaths)
    answered, failed, most = deal_all(dealer, bad.__contains__)
    assert sorted(map(int, failed)) == list(bad)
    assert sorted(map(int, answered)) == sorted(set(range(sum(sizes))) - set(bad))
    assert most <= MAX_DEATHS_IN_A_ROW


def test_machine_on_which_every_question_ends_its_worker_is_given_up() -> None:
    items = [requests(*(f"{n}{i}" for i in range(10))) for n in range(10, 90)]
    with pytest.raises(WorkerError, match=f"{MAX_FAILURES_IN_A_ROW} questions one after the other"):
        deal_all(Dealer(items), lambda _: True)
