"""The three official answer normalizers, each from str to str.

They share their steps (punctuation, periods, words) and differ in what precedes them and in the
contraction table. Sources: VQA is GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`; M4C is the answer
processor in haotian-liu/LLaVA @ c121f043, `m4c_evaluator.py`; VizWiz is the VizWiz VQA API's
evaluator as in TRI-ML/vlm-evaluation @ d9f58967.

The VQA evaluator is written for Python 2, where only ASCII digits count as digits and a final sigma
is lower-cased as any other; here both follow Python 3, for which the other two are written.

The contraction tables are the evaluators' own with all their oddities: keys with a capital never
match a lower-cased word, `somebody'd` loses its apostrophe, and the VizWiz table writes U+2019 in
most places, so that what it yields equals no ASCII ground truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

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

# Each is what becomes of the word with any one of its apostrophes left out.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am
mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't
she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd
there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've
you'd you'd've you'll you're you've
"""
VQA_CONTRACTIONS: dict[str, str] = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}
"""A word with too few apostrophes to the word with all of them."""

# The words that the VizWiz table writes with ASCII apostrophes, some as keys, others as results.
_STRAIGHT = {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
_STRAIGHT |= {"couldn'tve", "hadn'tve"}


def _curled(word: str) -> str:
    return word if word in _STRAIGHT else word.replace("'", "\u2019")


VIZWIZ_CONTRACTIONS: dict[str, str] = {
    _curled(key): _curled(word) for key, word in VQA_CONTRACTIONS.items()
}
"""The same with U+2019."""

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


def strip_punctuation(text: str, period: re.Pattern[str] = _PERIOD) -> str:
    """The text without punctuation that touches a space, or without any beside a thousands comma.

    Other punctuation becomes a space. What decides is the text before any replacement. Of what
    `period` finds only the first ones are deleted, as officially.

    >>> strip_punctuation("yes, it is."), strip_punctuation("left/right")
    ('yes it is', 'left right')
    """
    marks = _PUNCTUATION.intersection(text)
    if marks:
        has_thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
        table = {
            ord(mark): "" if has_thousands or mark + " " in text or " " + mark in text else " "
            for mark in marks
        }
        text = text.translate(table)
    return period.sub("", text, count=_MAX_PERIODS)


def _normalize(text: str, replacements: Mapping[str, str]) -> str:
    words = (replacements.get(word, word) for word in strip_punctuation(text).lower().split())
    return " ".join(word for word in words if word not in _ARTICLES)
