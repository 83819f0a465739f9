"""Demo questions in the style of VQAv2, and their official question and annotation records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.demo.choice import pick, shuffled
from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene
from evals.demo.words import described, with_article

NUM_ANSWERS = 10
_MAX_COUNT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VQAQuestion:
    """One question about a picture.

    Attributes:
        kind: The official question type, for example `is there a`.
        text: The question.
        answer: What most annotators say.
    """

    kind: str
    text: str
    answer: str

    @property
    def answer_type(self) -> str:
        """The official answer type: `yes/no`, `number` or `other`."""
        if self.answer in ("yes", "no"):
            return "yes/no"
        return "number" if self.answer.isdigit() else "other"


def ask_vqav2(scene: Scene, rng: np.random.Generator, num_questions: int) -> list[VQAQuestion]:
    """`num_questions` different questions about a scene.

    Kinds come in about the proportions of the real benchmark; yes and no are equally likely.
    """
    questions: dict[str, VQAQuestion] = {}
    while len(questions) < num_questions:
        ask = _ASKERS[int(rng.choice(len(_ASKERS), p=_SHARES))]
        question = ask(scene, rng)
        questions.setdefault(question.text, question)
    return list(questions.values())


def _ask_color(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    return VQAQuestion(
        kind="what color is the", text=f"What color is the {thing.shape}?", answer=thing.color
    )


def _ask_shape(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    thing = pick(rng, scene.things_known_by_color)
    text = pick(rng, ("What shape is the {} one?", "What shape is {}?")).format(thing.color)
    return VQAQuestion(kind="what", text=text, answer=thing.shape)


def _ask_count(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    counts = {color: len(scene.find(color=color)) for color in COLORS}
    counts |= {shape: len(scene.find(shape=shape)) for shape in SHAPES}
    # Every count that occurs is equally likely, or nearly all answers were 0 and 1.
    count = pick(rng, sorted({count for count in counts.values() if count <= _MAX_COUNT}))
    subject = pick(rng, [name for name, number in counts.items() if number == count])
    plural = PLURALS.get(subject, f"{subject} shapes")
    text = pick(rng, ("How many {} are there?", "How many {} are in the picture?"))
    return VQAQuestion(kind="how many", text=text.format(plural), answer=str(count))


def _ask_presence(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    color, shape = sample_look(scene, rng)
    answer = "yes" if scene.find(color=color, shape=shape) else "no"
    place = pick(rng, ("", " in the picture"))
    if rng.random() < 0.5:
        text = f"Is there {with_article(described(color, shape))}{place}?"
        return VQAQuestion(kind="is there a", text=text, answer=answer)
    noun = PLURALS[shape] if shape else "shapes"
    text = f"Are there any {f'{color} ' if color else ''}{noun}{place}?"
    return VQAQuestion(kind="are there any", text=text, answer=answer)


def _ask_whether_color(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    is_true = rng.random() < 0.5
    color = thing.color if is_true else pick(rng, sorted(set(COLORS) - {thing.color}))
    return VQAQuestion(
        kind="is the", text=f"Is the {thing.shape} {color}?", answer="yes" if is_true else "no"
    )


_ASKERS: tuple[Callable[[Scene, np.random.Generator], VQAQuestion], ...] = (
    _ask_color,
    _ask_shape,
    _ask_count,
    _ask_presence,
    _ask_whether_color,
)
_SHARES = (0.25, 0.22, 0.15, 0.25, 0.13)


def sample_look(scene: Scene, rng: np.random.Generator) -> tuple[str | None, str | None]:
    """A color, a shape or a pair of both that occurs in half of the draws.

    Half of the absent pairs are made of a color and a shape that do occur, on different things.
    """
    parts = int(rng.integers(4))  # color, shape, pair, pair
    occurs = rng.random() < 0.5
    if occurs:
        thing = pick(rng, scene.things)
        return (None if parts == 1 else thing.color, None if parts == 0 else thing.shape)
    if parts == 0:
        return pick(rng, sorted(set(COLORS) - scene.colors)), None
    absent_shapes = sorted(set(SHAPES) - scene.shapes)
    if parts == 1 and absent_shapes:
        return None, pick(rng, absent_shapes)
    swapped = rng.random() < 0.5
    colors, shapes = (scene.colors, scene.shapes) if swapped else (set(COLORS), set(SHAPES))
    pairs = [
        (color, shape)
        for color in sorted(colors)
        for shape in sorted(shapes)
        if not scene.find(color=color, shape=shape)
    ]
    return pick(rng, pairs)


def question_record(question: VQAQuestion, image_id: int, question_id: int) -> dict[str, Any]:
    """The question's object in the official question file."""
    return {"image_id": image_id, "question": question.text, "question_id": question_id}


def annotation_record(
    question: VQAQuestion, image_id: int, question_id: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The question's object in the official annotation file, with ten annotators' answers."""
    answers = [
        {"answer": answer, "answer_confidence": confidence, "answer_id": number}
        for number, (answer, confidence) in enumerate(_annotators_answers(question, rng), start=1)
    ]
    return {
        "question_type": question.kind,
        "multiple_choice_answer": question.answer,
        "answers": answers,
        "image_id": image_id,
        "answer_type": question.answer_type,
        "question_id": question_id,
    }


def _annotators_answers(question: VQAQuestion, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Ten answers with confidences: often unanimous, mostly agreeing, rarely quite divided."""
    draw = rng.random()
    num_others = 0 if draw < 0.55 else int(rng.integers(1, 4)) if draw < 0.95 else NUM_ANSWERS - 3
    others = [_other_answer(question, rng) for _ in range(num_others)]
    answers = shuffled(rng, [question.answer] * (NUM_ANSWERS - num_others) + others)
    return [
        (
            answer,
            pick(
                rng,
                ("yes", "yes", "yes", "maybe") if answer == question.answer else ("maybe", "no"),
            ),
        )
        for answer in answers
    ]


def _other_answer(question: VQAQuestion, rng: np.random.Generator) -> str:
    return pick(rng, _OTHER_ANSWERS.get(question.answer) or _NUMBERS_BESIDE[question.answer])


_NUMBERS_BESIDE: Mapping[str, Sequence[str]] = {
    str(number): [str(n) for n in (number - 1, number + 1, number + 2) if n >= 0]
    for number in range(_MAX_COUNT + 1)
}
_OTHER_ANSWERS: Mapping[str, Sequence[str]] = {
    "yes": ("no", "i think so", "1", "it is"),
    "no": ("yes", "not sure", "none", "0"),
    "red": ("dark red", "crimson", "maroon"),
    "green": ("dark green", "grass green", "teal"),
    "blue": ("dark blue", "navy", "royal blue"),
    "yellow": ("gold", "lemon", "light yellow"),
    "purple": ("violet", "magenta", "dark purple"),
    "orange": ("gold", "amber", "dark orange"),
    "white": ("light gray", "cream", "snow white"),
    "black": ("dark", "dark gray", "charcoal"),
    "circle": ("round", "ball", "disk"),
    "square": ("box", "rectangle", "quadrilateral"),
    "triangle": ("pyramid", "arrow", "three sided"),
    "diamond": ("rhombus", "kite", "lozenge"),
    "cross": ("plus", "plus sign", "x"),
    "ring": ("hoop", "donut", "loop"),
}
