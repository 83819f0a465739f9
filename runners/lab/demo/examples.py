"""Training examples: demo questions in exactly the prompts that the benchmarks send."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from evals.demo.asking import Question
from evals.demo.drawing import draw_scene
from evals.demo.generate import JPEG_OPTIONS, SeedSpace, picture_generator
from evals.demo.gqa import ask_gqa
from evals.demo.scene import Scene, sample_scene
from evals.demo.scienceqa import ScienceQuestion, ask_about_picture, ask_without_picture
from evals.demo.vqav2 import ask_vqav2
from evals.reading.questions import LETTER_SUFFIX, SHORT_ANSWER_SUFFIX
from evals.reading.scienceqa import render_problem
from evals.scorers.choice import LETTERS

_SHARE_OF_JPEG = 0.75
_SHARE_OF_SCIENCE = 0.36  # of the questions about a picture; letters are learned last


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with its answer.

    Attributes:
        kind: What the question practices.
        text: The user turn without the image placeholder, suffix included.
        answer: What the assistant is to say.
        num_choices: How many lettered options end the text before the suffix; 0 for none.
    """

    kind: str
    text: str
    answer: str
    num_choices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Examples that share one picture, or that have none."""

    examples: tuple[Example, ...]
    scene: Scene | None = None
    image: Image.Image | None = None


def picture_lesson(
    seed: int, number: int, num_examples: int, space: SeedSpace = SeedSpace.TRAINING
) -> Lesson:
    """Questions of all three benchmarks about one picture."""
    rng = picture_generator(space, seed, "gqa", number)
    scene = sample_scene(rng)  # the same for a number however many questions are asked
    image = _as_stored(draw_scene(scene, rng), rng)
    num_science = int(rng.binomial(num_examples, _SHARE_OF_SCIENCE))
    num_vqa = (num_examples - num_science) // 2
    science = [_science_example(ask_about_picture(scene, rng)) for _ in range(num_science)]
    vqa = [_short_example(q, "vqav2") for q in ask_vqav2(scene, rng, num_vqa)]
    num_gqa = num_examples - num_science - num_vqa
    gqa = [_short_example(q, "gqa") for q in ask_gqa(scene, rng, num_gqa)]
    return Lesson(examples=(*science, *vqa, *gqa), scene=scene, image=image)


def text_lesson(
    seed: int, number: int, num_examples: int, space: SeedSpace = SeedSpace.TRAINING
) -> Lesson:
    """ScienceQA questions without a picture."""
    rng = picture_generator(space, seed, "scienceqa", number)
    examples = (_science_example(ask_without_picture(rng)) for _ in range(num_examples))
    return Lesson(examples=tuple(examples))


def _as_stored(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture after the losses of a file: three of four times JPEG, else PNG."""
    if rng.random() >= _SHARE_OF_JPEG:
        return image
    buffer = io.BytesIO()
    image.save(buffer, **JPEG_OPTIONS)
    return Image.open(buffer).convert("RGB")


def _short_example(question: Question, task: str) -> Example:
    text = question.text + SHORT_ANSWER_SUFFIX
    return Example(kind=f"{task}: {question.kind}", text=text, answer=question.answer)


def _science_example(question: ScienceQuestion) -> Example:
    problem = render_problem(question.question, question.choices, question.hint)
    return Example(
        kind=f"scienceqa: {question.skill}",
        text=problem + LETTER_SUFFIX,
        answer=LETTERS[question.answer],
        num_choices=len(question.choices),
    )
