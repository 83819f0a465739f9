"""The texts that a demo checkpoint's tokenizer is learned from."""

from __future__ import annotations

from collections.abc import Iterator

from llava.conversation import conv_templates, render_question
from runners.lab.demo.examples import picture_lesson, text_lesson
from runners.lab.demo.form import Form

_NUM_LESSONS = 2000


def read_corpus(form: Form, seed: int) -> Iterator[str]:
    """Texts for the tokenizer: whole prompts, answers, the system text of every template."""
    for number in range(_NUM_LESSONS):
        for lesson in (picture_lesson(seed, number, 8), text_lesson(seed, number, 8)):
            for example in lesson.examples:
                yield render_question(form.conversation, example.text, 0)
                yield example.answer
    # No demo prompt has these texts, but a user may choose any template.
    for conversation in conv_templates.values():
        yield conversation.system
