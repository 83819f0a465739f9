"""The three official answer normalizers, each from str to str.

They share their steps (punctuation, periods, words) and differ in what precedes them and in the
contraction table. Sources: VQA is GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`; M4C is the answer
processor in haotian-liu/LLaVA @ c121f043, `m4c_evaluator.py`; VizWiz is the VizWiz VQA API's
evaluator as in TRI-ML/vlm-evaluation @ d9f58967.

The VQA evaluator is written for Python 2, where only ASCII digits count as digits and a final sigma
is lower-cased as any other; here both follow Python 3, for which the other two are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from evals.scorers.contractions import VIZWIZ_CONTRACTIONS, VQA_CONTRACTIONS

_PUNCTUATION = frozenset(';/[]"{}()=+\\_-><@`,?!')
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
# The official pattern starts with `(?!<=\d)`, meant as a look-behind, which always holds.
_PERIOD = re.compile(r"\.(?!\d)")
# The official call passes `re.UNICODE`, which is 32, where `re.sub` takes the count.
_MAX_PERIODS = 32
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}
_ARTICLES = frozenset(["a", "an", "the"])
_VQA_WORDS = _NUMBERS | VQA_CONTRACTIONS
_VIZWIZ_WORDS = _NUMBERS | VIZWIZ_CONTRACTIONS
_CACHE_SIZE = 1 << 16


def clean_whitespace(text: str) -> str:
    r"""The text with newlines and tabs as spaces, stripped: what the evaluators do to any answer.

    >>> clean_whitespace("a\nb\t ")
    'a b'
    """
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=_CACHE_SIZE)
def normalize_vqa(text: str) -> str:
    """The text as the official VQAv2 evaluator compares it.

    >>> normalize_vqa("The cat, and two dogs.")
    'cat and 2 dogs'
    >>> normalize_vqa("red,white"), normalize_vqa("5,000/6,000"), normalize_vqa("1.5")
    ('red white', '50006000', '1.5')
    >>> normalize_vqa("dont")
    "don't"
    """
    return _normalize(clean_whitespace(text), _VQA_WORDS)


@lru_cache(maxsize=_CACHE_SIZE)
def normalize_m4c(text: str) -> str:
    """The text as LLaVA uploads it and as TextVQA compares it.

    >>> normalize_m4c("It's the man's hat.")
    "it 's man 's hat"
    >>> normalize_m4c("red,white"), normalize_m4c("5,000/6,000")
    ('redwhite', '5000 6000')
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _normalize(clean_whitespace(text), _VQA_WORDS)


@lru_cache(maxsize=_CACHE_SIZE)
def normalize_vizwiz(text: str) -> str:
    """The text as the VizWiz evaluator compares it; contractions come out with U+2019.

    >>> normalize_vizwiz("I dont know.")
    'i don’t know'
    """
    return _normalize(clean_whitespace(text), _VIZWIZ_WORDS)


def _normalize(text: str, replacements: Mapping[str, str]) -> str:
    return _normalize_words(_strip_punctuation(text), replacements)


def _strip_punctuation(text: str) -> str:
    """Deletes punctuation that touches a space, and all of it beside a thousands comma.

    Other punctuation becomes a space. What decides is the text before any replacement.
    """
    marks = _PUNCTUATION.intersection(text)
    if marks:
        has_thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
        table = {
            ord(mark): "" if has_thousands or mark + " " in text or " " + mark in text else " "
            for mark in marks
        }
        text = text.translate(table)
    return _PERIOD.sub("", text, count=_MAX_PERIODS)


def _normalize_words(text: str, replacements: Mapping[str, str]) -> str:
    words = (replacements.get(word, word) for word in text.lower().split())
    return " ".join(word for word in words if word not in _ARTICLES)
