import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.normalize import (
    VIZWIZ_CONTRACTIONS,
    VQA_CONTRACTIONS,
    clean_whitespace,
    normalize_m4c,
    normalize_vizwiz,
    normalize_vqa,
)

NUMBERS = {"none": 0, "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
NUMBERS |= {"six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}


def normalize_step_by_step(text, contractions):
    """The published rules, one after the other, without a thought for speed."""
    text = original = text.replace("\n", " ").replace("\t", " ").strip()
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        touches_space = mark + " " in original or " " + mark in original
        delete = touches_space or re.search(r"\d,\d", original)
        text = text.replace(mark, "" if delete else " ")
    for _ in range(32):
        text = re.sub(r"\.(?!\d)", "", text, count=1)
    words = [str(NUMBERS.get(word, word)) for word in text.lower().split()]
    words = [word for word in words if word not in ("a", "an", "the")]
    return " ".join(contractions.get(word, word) for word in words)


ANSWERS = st.text(
    st.sampled_from(list("aAtheno12.,;-/'’?! \n\t\u0130Σ٣")) | st.characters(), max_size=60
) | st.lists(
    st.sampled_from(["the", "Two", "dont", "it's", "5,000", "1.5", ".", "red,white", "None"])
).map(" ".join)


@settings(deadline=None)
@given(ANSWERS)
def test_vqa_follows_the_published_steps(text):
    assert normalize_vqa(text) == normalize_step_by_step(text, VQA_CONTRACTIONS)


@settings(deadline=None)
@given(ANSWERS)
def test_vizwiz_differs_in_its_table_only(text):
    assert normalize_vizwiz(text) == normalize_step_by_step(text, VIZWIZ_CONTRACTIONS)


@settings(deadline=None)
@given(ANSWERS)
def test_m4c_is_vqa_after_its_own_first_step(text):
    first = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    assert normalize_m4c(text) == normalize_step_by_step(first, VQA_CONTRACTIONS)


@pytest.mark.parametrize("normalize", [normalize_vqa, normalize_m4c, normalize_vizwiz])
@settings(deadline=None)
@given(text=ANSWERS)
def test_result_is_single_spaced_and_holds_no_article(normalize, text):
    words = normalize(text).split(" ")
    assert words == [""] or ("" not in words and not {"a", "an", "the"} & set(words))


@pytest.mark.parametrize(
    ("raw", "vqa", "m4c"),
    [
        ("Yes.", "yes", "yes"),
        ("twenty-one", "twenty 1", "twenty 1"),
        ("it's", "it's", "it 's"),
        ("red,white", "red white", "redwhite"),
        ("yes?no", "yes no", "yesno"),
        ("5,000/6,000", "50006000", "5000 6000"),
        ("a/b - c", "b c", "b c"),
        ("5. .5 1.5 1.a", "5 .5 1.5 1a", "5 .5 1.5 1a"),
        ("Im", "im", "im"),
        ("somebody'd", "somebodyd", "somebodyd"),
        ("", "", ""),
        ("The", "", ""),
    ],
)
def test_known_strings(raw, vqa, m4c):
    assert (normalize_vqa(raw), normalize_m4c(raw)) == (vqa, m4c)


@pytest.mark.parametrize(
    ("table", "digest"),
    [(VQA_CONTRACTIONS, "8f189686e9ad2a75"), (VIZWIZ_CONTRACTIONS, "0ba27841c2da9d3c")],
    ids=["vqa", "vizwiz"],
)
def test_the_tables_are_the_evaluators_entry_for_entry(table, digest):
    assert len(table) == 120
    entries = repr(sorted(table.items())).encode()
    assert hashlib.sha256(entries).hexdigest()[:16] == digest


def test_only_the_first_32_periods_go():
    assert normalize_vqa("x" + "." * 40) == "x" + "." * 8


def test_vizwiz_contraction_equals_no_ascii_answer():
    assert normalize_vizwiz("dont") == "don’t" != normalize_vqa("dont") == "don't"


def test_whitespace_is_cleaned_before_anything_else():
    assert clean_whitespace("\t a\nb \n") == "a b"
