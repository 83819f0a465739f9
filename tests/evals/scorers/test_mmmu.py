"""What the official script, and that of lmms-eval, make of the same answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.mmmu import LMMS_FORMS, read_letter, score_open

PAINTERS = {"A": "Monet", "B": "Manet", "C": "Cézanne", "D": "Gauguin"}
CELLS = {"A": "red blood cell", "B": "white blood cell", "C": "platelet", "D": "plasma"}
NUMBERS = {"A": "10", "B": "100", "C": "3", "D": "13"}


@pytest.mark.parametrize(
    ("text", "options", "letter", "lmms"),
    [
        ("A", PAINTERS, "A", "A"),
        ("B'.", PAINTERS, "B", "B"),  # marks go once each, in their order
        ("A.'", PAINTERS, None, "A"),  # so that here the period stays
        ("...B,,,", PAINTERS, "B", "B"),
        ("A. Monet", PAINTERS, None, "A"),
        ("B: Manet", PAINTERS, None, None),
        ("B)", PAINTERS, None, None),
        ("**A**", PAINTERS, None, None),
        ("a", PAINTERS, None, None),
        ("C\nbecause", PAINTERS, None, None),  # a newline is no blank
        ("A B", PAINTERS, "B", "B"),
        ("B A", PAINTERS, "A", "A"),
        ("A and (B)", PAINTERS, "B", "B"),
        ("(D) is wrong, so (A)", PAINTERS, "A", "A"),
        ("(C)(B)", PAINTERS, "B", "B"),
        ("MA or D", PAINTERS, "D", "D"),
        ("A. or B.", PAINTERS, "B", "B"),
        ("MA MB", PAINTERS, None, "A"),  # found without a blank in front, ranked with it
        ("MA, A. or MB", PAINTERS, None, "B"),
        ("white blood cell", CELLS, None, None),  # three words name no option
        ("The picture shows White Blood Cell.", CELLS, "B", "B"),
        ("It is not the plasma; instead I see a platelet", CELLS, "C", "C"),
        ("the sum of all the sides is 100", NUMBERS, "A", "A"),  # 10 and 100 at one place
        ("E", PAINTERS, None, None),
        ("Ａ", PAINTERS, None, None),
        ("", PAINTERS, None, None),
    ],
)
def test_letters_are_read_as_by_the_scripts(text, options, letter, lmms):
    assert read_letter(text, options) == letter
    assert read_letter(text, options, LMMS_FORMS) == lmms


@pytest.mark.parametrize(
    ("text", "targets", "value"),
    [
        ("24", ["24"], 1),
        ("24.004", ["24"], 1),  # two decimals
        ("24.006", ["24"], 0),
        ("240", ["24"], 0),
        ("about 24 V", ["24"], 1),
        (".5", ["0.5"], 0),  # the leading period goes
        ("0.50 A", ["0.5"], 1),
        ("1/2", ["0.5"], 0),
        ("1,200 units", ["1200"], 1),
        ("1200", ["1,200"], 1),
        ("1.2e3", ["1200"], 1),
        ("1,5", ["1.5"], 0),
        ("$1.5 million", ["1.5"], 1),
        ("10-12", ["-12"], 1),  # read as two numbers
        ("10-12", ["12"], 0),
        ("minus 3", ["-3"], 0),
        ("There is nothing known", ["no"], 1),  # a part of a word
        ("it is c major", ["C"], 1),  # a single letter beside a blank
        ("ABC", ["C"], 0),
        ("so the result is two", ["2"], 0),
        ("The first is 4. The second is 5", ["4"], 0),  # never cut at a period
        ("The first is 4.\nThe second is 5", ["4"], 1),
        ("x = 2\ny = 3", ["2"], 0),  # an equation counts in the last line
        ("x = 2\ny = 3", ["3"], 1),
        ("a=1\nb=3, so 7 is final", ["7"], 0),
        ("answer :", [":"], 1),  # what is trivial behind a cue gives way to the whole text
        ("It is Tampa", ["Tampa", "Florida"], 1),
        ("Miami", ["Tampa", "Florida"], 0),
        ("Tampa", ["['Tampa', 'Florida']"], 0),  # as lmms-eval has it
        ("", ["yes"], 0),
        ("inf", ["inf"], 1),
        ("nan", ["nan"], 0),
    ],
)
def test_open_answers_are_right_as_officially(text, targets, value):
    assert score_open(text, targets) == value


@given(st.text(), st.dictionaries(st.sampled_from("ABCDE"), st.text(max_size=9)))
def test_any_text_gives_a_letter_of_the_options_or_nothing(text, options):
    assert read_letter(text, options) in {None, *options}
    assert read_letter(text, options, LMMS_FORMS) in {None, *options}


@given(st.text(), st.lists(st.text(), min_size=1))
def test_any_open_answer_is_right_or_wrong(text, targets):
    assert score_open(text, targets) in (0.0, 1.0)
