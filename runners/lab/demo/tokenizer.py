"""Trains the demo checkpoint's tokenizer: sentencepiece BPE with LLaMA's settings."""

from __future__ import annotations

import io
import string
from collections.abc import Iterable, Iterator

import sentencepiece

from llava.conversation import conv_templates, render_question
from runners.lab.demo.examples import CONVERSATION, picture_lesson, text_lesson

VOCABULARY_SIZE = 896
_NUM_LESSONS = 2000


def read_corpus(seed: int) -> Iterator[str]:
    """Texts for the tokenizer: whole prompts, answers, the system text of every template."""
    for number in range(_NUM_LESSONS):
        for lesson in (picture_lesson(seed, number, 8), text_lesson(seed, number, 8)):
            for example in lesson.examples:
                yield render_question(CONVERSATION, example.text, 0)
                yield example.answer
    # No demo prompt has these texts, but a user may choose any template.
    for conversation in conv_templates.values():
        yield conversation.system


def train_tokenizer(texts: Iterable[str]) -> bytes:
    """The content of a `tokenizer.model` that was learned from texts.

    Line breaks become bytes, as in LLaMA, because no text is seen across them; all of ASCII has
    pieces of its own, everything else is spelled in bytes.
    """
    lines = [line for text in texts for line in text.split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY_SIZE,
        character_coverage=1.0,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        input_sentence_size=0,
        minloglevel=2,
    )
    return model.getvalue()
