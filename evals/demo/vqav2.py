"""Demo questions in the style of VQAv2, and their official question and annotation records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.demo.asking import Question, ask_different, described, sample_look, with_article
from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene, pick, shuffled

NUM_ANSWERS = 10
_MAX_COUNT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VQAQuestion(Question):
    """A question about a picture; its `kind` is the official question type, as `is there a`."""

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
    return ask_different(_SHARES, scene, rng, num_questions)


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
    text = f"Are there any {described(color, shape, plural=True)}{place}?"
    return VQAQuestion(kind="are there any", text=text, answer=answer)


def _ask_whether_color(scene: Scene, rng: np.random.Generator) -> VQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    is_true = rng.random() < 0.5
    color = thing.color if is_true else pick(rng, sorted(set(COLORS) - {thing.color}))
    return VQAQuestion(
        kind="is the", text=f"Is the {thing.shape} {color}?", answer="yes" if is_true else "no"
    )


_SHARES: Mapping[Callable[[Scene, np.random.Generator], VQAQuestion], float] = {
    _ask_color: 0.25,
    _ask_shape: 0.22,
    _ask_count: 0.15,
    _ask_presence: 0.25,
    _ask_whether_color: 0.13,
}


def question_record(question: VQAQuestion, image_id: int, question_id: int) -> dict[str, Any]:
    """The question's object in the official question file."""
    return {"image_id": image_id, "question": question.text, "question_id": question_id}


def annotation_record(
    question: VQAQuestion, image_id: int, question_id: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The question's object in the official annotation file, with ten annotators' answers."""
    records = []
    for number, answer in enumerate(_annotators_answers(question, rng), start=1):
        agrees = answer == question.answer
        confidence = pick(rng, ("yes", "yes", "yes", "maybe") if agrees else ("maybe", "no"))
        records.append({"answer": answer, "answer_confidence": confidence, "answer_id": number})
    return {
        "question_type": question.kind,
        "multiple_choice_answer": question.answer,
        "answers": records,
        "image_id": image_id,
        "answer_type": question.answer_type,
        "question_id": question_id,
    }


def _annotators_answers(question: VQAQuestion, rng: np.random.Generator) -> list[str]:
    """Ten answers: often unanimous, mostly agreeing, rarely quite divided."""
    draw = rng.random()
    num_others = 0 if draw < 0.55 else int(rng.integers(1, 4)) if draw < 0.95 else NUM_ANSWERS - 3
    known = _OTHER_ANSWERS.get(question.answer) or _NUMBERS_BESIDE[question.answer]
    others = [pick(rng, known) for _ in range(num_others)]
    return shuffled(rng, [question.answer] * (NUM_ANSWERS - num_others) + others)


# Who miscounts is off by one or two.
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
