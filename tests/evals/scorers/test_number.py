from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.number import last_number, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.", "12"),
        ("-.5", "-0.5"),
        ("+7", "7"),
        ("x=-3", "-3"),
        ("10-12", "12"),
        ("A4", "4"),
        ("1,234,567.5 km", "1234567.5"),
        ("2007, 2008", "2008"),
        ("1.2e3", "1200"),
        ("1e99999", "99999"),  # no power of ten that long
        ("\N{MINUS SIGN}12", "-12"),
        ("１２", None),
        ("", None),
        ("e.g.", None),
    ],
)
def test_last_number_is_read(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


@given(st.text(alphabet="0123456789.,-+eE \N{MINUS SIGN}x"))
def test_any_text_is_read_or_not(text):
    found, whole = last_number(text), whole_number(text)
    assert found is None or found.is_finite()
    assert whole is None or whole == found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_number_that_is_written_out_is_read_as_it_is(number):
    assert whole_number(f"{number:f}") == number == last_number(f"about {number:,f} m")
