import random

import pytest

from evals.scorers.edit_distance import edit_distance


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("a", "a", 0),
        ("a", "", 1),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
        ("🙂", "x", 1),
    ],
)
def test_distance_is_the_least_number_of_edits(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_distance_agrees_with_the_definition():
    def plain(one, other):
        if not one or not other:
            return len(one) + len(other)
        replaced = plain(one[1:], other[1:]) + (one[0] != other[0])
        return min(replaced, plain(one[1:], other) + 1, plain(one, other[1:]) + 1)

    draw = random.Random(0)
    for _ in range(40):
        one, other = ("".join(draw.choices("abc", k=draw.randint(0, 5))) for _ in range(2))
        assert edit_distance(one, other) == plain(one, other)
