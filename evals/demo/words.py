"""How the demo questions put colors, shapes and lists into words."""

from __future__ import annotations

from collections.abc import Sequence


def with_article(noun_phrase: str) -> str:
    """The phrase behind the right indefinite article.

    >>> with_article("red ring"), with_article("orange ring")
    ('a red ring', 'an orange ring')
    """
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"


def described(color: str | None, shape: str | None) -> str:
    """A thing by what is known of it.

    >>> described("red", "ring"), described(None, "ring"), described("red", None)
    ('red ring', 'ring', 'red shape')
    """
    return " ".join(word for word in (color, shape or "shape") if word)


def word_positions(text: str, words: Sequence[str]) -> list[int]:
    """Positions in `text`, counted in words, at which one of `words` stands.

    >>> word_positions("Is the ring red?", ["ring", "red"])
    [2, 3]
    """
    return [i for i, word in enumerate(text.split()) if word.strip("?.,").lower() in words]
