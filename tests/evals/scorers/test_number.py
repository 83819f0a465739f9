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
        ("Answer:5", "5"),
        ("1,234,567.5 km", "1234567.5"),
        ("2007, 2008", "2008"),
        ("1.2e3", "1200"),
        ("\N{MINUS SIGN}12", "-12"),
        ("12m²", "12"),
        ("2 of 12 m²", "12"),
        ("a 5-year-old", "5"),
        ("2+3=5", "5"),
        ("-$5", "-5"),
        ("$-5$", "-5"),
        ("US$1,200", "1200"),
        ("**-12** kg", "-12"),
        ("('5')", "5"),
        (r"\boxed{12}", "12"),
        ("共有10个,其中3个。", "3"),
        ("答案：5", "5"),
    ],
)
def test_last_number_is_read(text, number):
    assert last_number(f"not 4, but {text}") == last_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        *("No.5", "p.12", "approx.40", "...5", "v1.2.3", "A4", "GPT-4", "is--5"),
        *("1,5", "1.000.000", "1234,567", "0,500", "12,34,567", "1.234,5", "1 000", "1'000"),
        *("10-12", "10–12", "5%-10%", "3/4", "10:30", "3x4", "1_000", "5'11", "2½", "½", "10²"),
        *("10^2", "10^{3}", r"\frac{1}{2}", "1.5 × 10³", "1e99999", "5e3²", "－5", "3．5", "１２"),
    ],
)
def test_what_may_be_another_number_is_not_read(text):
    assert last_number(text) is last_number(f"4 or {text} m.") is None


@pytest.mark.parametrize("text", ["", "none", "e.g.", "m²"])
def test_text_without_a_digit_has_no_number(text):
    assert last_number(text) is None


def test_long_answers_are_read_in_time():
    for text in ("*" * 50_000 + "x1", "1," * 50_000, "1" * 50_000 + "x1", "A$" * 50_000 + "x1"):
        assert last_number(text) is None


@given(st.text(alphabet="0123456789.,-+eE \N{MINUS SIGN}x"))
def test_any_text_is_read_or_not(text):
    found, whole = last_number(text), whole_number(text)
    assert found is None or found.is_finite()
    assert whole is None or whole == found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_number_that_is_written_out_is_read_as_it_is(number):
    assert whole_number(f"{number:f}") == number == last_number(f"about {number:,f} m")
