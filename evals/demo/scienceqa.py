"""Demo questions in the style of ScienceQA, with and without a picture, with and without a hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.demo.asking import with_article
from evals.demo.scene import COLORS, SHAPES, Scene, pick, pick_some, shuffled

MIN_CHOICES, MAX_CHOICES = 2, 5

_PICTURE_HINTS = (
    "The picture shows some shapes on a tray.",
    "Look at the picture.",
    "A student put some shapes on a table.",
)
_PICTURE_PLACE = (
    "natural science", "science-and-engineering-practices", "Observe and describe"
)  # fmt: skip
_NOUNS = (
    "ball", "bike", "book", "box", "car", "chair", "cup", "door", "flag", "hat", "kite", "lamp",
    "pen", "shirt", "shoe", "table",
)  # fmt: skip
_NAMES = ("Ann", "Ben", "Eva", "Jim", "Kim", "Lee", "Max", "Sam", "Tom", "Zoe")
_MEMBERS: dict[str, tuple[str, ...]] = {
    "animal": ("bear", "cat", "cow", "dog", "duck", "fish", "frog", "horse"),
    "plant": ("cactus", "fern", "grass", "moss", "oak", "pine", "rose", "tulip"),
    "metal": ("copper", "gold", "iron", "lead", "silver", "steel", "tin", "zinc"),
    "country": ("Brazil", "Canada", "Chile", "China", "Egypt", "France", "India", "Japan"),
    "city": ("Berlin", "Boston", "Chicago", "London", "Madrid", "Moscow", "Paris", "Rome"),
    "job": ("baker", "doctor", "farmer", "judge", "lawyer", "nurse", "pilot", "teacher"),
    "verb": ("bring", "carry", "eat", "go", "know", "run", "speak", "write"),
    "pronoun": ("he", "it", "she", "they", "we", "you", "him", "them"),
    "adjective": ("big", "cold", "dry", "happy", "hot", "slow", "small", "wet"),
}
# Of each subject the topic and the kinds of words that are told apart.
_SORTED_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "natural science": ("biology", ("animal", "plant", "metal")),
    "social science": ("geography", ("country", "city", "job")),
    "language science": ("grammar", ("verb", "pronoun", "adjective")),
}
_OPPOSITES: dict[str, str] = {
    "big": "small", "cold": "hot", "dry": "wet", "early": "late", "fast": "slow", "happy": "sad",
    "hard": "soft", "high": "low", "light": "dark", "old": "new", "open": "closed", "rich": "poor",
}  # fmt: skip
_GRADES = range(1, 13)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScienceQuestion:
    """One multiple-choice question.

    Attributes:
        skill: What the question practices; questions of one skill are of one kind.
        question: The question, without the choices.
        choices: 2 to 5 different options.
        answer: Position of the right one.
        hint: What stands behind `Context:` in the prompt; may be empty.
        subject: `natural science`, `social science` or `language science`.
        topic: The topic within the subject.
        category: The category within the topic.
        needs_picture: Whether the question is about a picture.
    """

    skill: str
    question: str
    choices: tuple[str, ...]
    answer: int
    hint: str
    subject: str
    topic: str
    category: str
    needs_picture: bool


def ask_about_picture(scene: Scene, rng: np.random.Generator) -> ScienceQuestion:
    """A question that only the picture answers."""
    # What stands twice is asked twice as often.
    ask = pick(rng, (_ask_color, _ask_color, _ask_shape, _ask_shape, _ask_present_shape))
    return ask(scene, rng)


def ask_without_picture(rng: np.random.Generator) -> ScienceQuestion:
    """A question that the hint answers, or that knowledge of words answers."""
    ask = pick(
        rng, (_ask_color_in_hint, _ask_owner_in_hint, _ask_member, _ask_member, _ask_opposite)
    )
    return ask(rng)


def problem_record(
    question: ScienceQuestion, split: str, rng: np.random.Generator
) -> dict[str, Any]:
    """The question's object in the official `problems.json`."""
    right = question.choices[question.answer]
    return {
        "question": question.question,
        "choices": list(question.choices),
        "answer": question.answer,
        "hint": question.hint,
        "image": "image.png" if question.needs_picture else None,  # in a folder of its own
        "task": "closed choice",
        "grade": f"grade{pick(rng, _GRADES)}",
        "subject": question.subject,
        "topic": question.topic,
        "category": question.category,
        "skill": question.skill,
        "lecture": "",
        "solution": f"The answer is {right}.",
        "split": split,
    }


def _question(
    rng: np.random.Generator,
    skill: str,
    question: str,
    options: tuple[str, Sequence[str]],
    place: tuple[str, str, str],
    hint: str | None = None,
) -> ScienceQuestion:
    """A question with choices in random order; without `hint` it is one about a picture.

    `options` are the right one and all wrong ones; `place` is subject, topic and category.
    """
    right, wrong = options
    largest = min(MAX_CHOICES, len(wrong) + 1)
    num_choices = int(rng.integers(MIN_CHOICES, largest + 1))
    choices = shuffled(rng, [right, *pick_some(rng, wrong, num_choices - 1)])
    needs_picture = hint is None
    if hint is None:  # a picture speaks for itself, so that its hint says nothing of use
        hint = pick(rng, _PICTURE_HINTS) if rng.random() < 0.6 else ""
    subject, topic, category = place
    return ScienceQuestion(
        skill=skill,
        question=question,
        choices=tuple(choices),
        answer=choices.index(right),
        hint=hint,
        subject=subject,
        topic=topic,
        category=category,
        needs_picture=needs_picture,
    )


def _ask_color(scene: Scene, rng: np.random.Generator) -> ScienceQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    options = (thing.color, sorted(set(COLORS) - {thing.color}))
    question = f"What color is the {thing.shape}?"
    return _question(rng, "Observe colors", question, options, _PICTURE_PLACE)


def _ask_shape(scene: Scene, rng: np.random.Generator) -> ScienceQuestion:
    thing = pick(rng, scene.things_known_by_color)
    options = (thing.shape, sorted(set(SHAPES) - {thing.shape}))
    question = f"What shape is {thing.color}?"
    return _question(rng, "Observe shapes", question, options, _PICTURE_PLACE)


def _ask_present_shape(scene: Scene, rng: np.random.Generator) -> ScienceQuestion:
    # Where all shapes are in the picture, none is left to be a wrong choice.
    by_color = len(scene.shapes) == len(SHAPES) or rng.random() < 0.5
    present, known = (scene.colors, set(COLORS)) if by_color else (scene.shapes, set(SHAPES))
    question = f"Which {'color' if by_color else 'shape'} is in the picture?"
    options = (pick(rng, sorted(present)), sorted(known - present))
    return _question(rng, "Find in a picture", question, options, _PICTURE_PLACE)


def _ask_color_in_hint(rng: np.random.Generator) -> ScienceQuestion:
    count = int(rng.integers(2, 4))
    nouns = pick_some(rng, _NOUNS, count)
    colors = pick_some(rng, tuple(COLORS), count)
    hint = " ".join(f"The {noun} is {color}." for noun, color in zip(nouns, colors, strict=True))
    place = ("natural science", "physics", "Materials")
    asked = int(rng.integers(count))
    others = sorted(set(COLORS) - {colors[asked]})
    question = f"What color is the {nouns[asked]}?"
    return _question(rng, "Read about colors", question, (colors[asked], others), place, hint)


def _ask_owner_in_hint(rng: np.random.Generator) -> ScienceQuestion:
    count = int(rng.integers(2, 4))
    names, nouns = pick_some(rng, _NAMES, count), pick_some(rng, _NOUNS, count)
    hint = " ".join(
        f"{name} has {with_article(noun)}." for name, noun in zip(names, nouns, strict=True)
    )
    place = ("social science", "economics", "Goods and services")
    asked = int(rng.integers(count))
    others = sorted(set(_NAMES) - {names[asked]})
    question = f"Who has the {nouns[asked]}?"
    return _question(rng, "Read about people", question, (names[asked], others), place, hint)


def _ask_member(rng: np.random.Generator) -> ScienceQuestion:
    subject = pick(rng, tuple(_SORTED_WORDS))
    topic, kinds = _SORTED_WORDS[subject]
    kind = pick(rng, kinds)
    # Of the same subject only: an animal among verbs would be found too easily.
    wrong = [word for other in kinds for word in _MEMBERS[other] if other != kind]
    named = "Which word" if subject == "language science" else "Which"
    question = f"{named} is {with_article(kind)}?"
    options = (pick(rng, _MEMBERS[kind]), wrong)
    place = (subject, topic, "Classification")
    return _question(rng, "Sort words", question, options, place, hint="")


def _ask_opposite(rng: np.random.Generator) -> ScienceQuestion:
    pairs = [*_OPPOSITES.items(), *((right, left) for left, right in _OPPOSITES.items())]
    word, right = pick(rng, pairs)
    wrong = sorted({other for pair in pairs for other in pair} - {word, right})
    question = f"Which word means the opposite of {word}?"
    place = ("language science", "vocabulary", "Opposites")
    return _question(rng, "Name opposites", question, (right, wrong), place, hint="")
