"""Which conversation template is a checkpoint's, and where its tokenizer ends a turn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llava.conversation import conv_templates, first_name, render_question
from llava.errors import ConversationError

_NAME_RULES: tuple[tuple[str, str | None], ...] = (
    ("qwen2.5", None),
    ("llama3-llava", "llava_llama_3"),
    ("llava-llama-3", "llama_3"),
    ("llava-next-qwen", "qwen_1_5"),
    ("interleave-qwen", "qwen_1_5"),
    ("qwen1.5", "qwen_1_5"),
    ("qwen2", "qwen_1_5"),
    ("llava-onevision", "qwen_1_5"),
    ("gemma", "gemma_instruct"),
    ("phi-3-mini-4k", "phi3_instruct"),
    ("phi-3-mini-128k", "phi3_instruct"),
    ("llava-phi-3-mini", "phi3_chat"),
    ("llama-2", "llava_llama_2"),
    ("mistral", "mistral_instruct"),
    ("v1.6-34b", "chatml_direct"),
    ("v1.5", "vicuna_v1"),
    ("llava-1.5", "vicuna_v1"),
    ("v1.6-vicuna", "vicuna_v1"),
    ("v1", "llava_v1"),
    ("mpt", "mpt"),
)
"""What occurs in a name, and the template; None where LLaVAs are trained in one or another."""


_MARKS = re.compile(r"</?s>|<\|\w+\|>|<(?:start|end)_of_turn>")
"""What a tokenizer of the right family has as one token each, among a template's texts."""

_ROLE_TOKENS = (
    *("<|im_start|>", "<|start_header_id|>", "<|start_of_role|>", "<start_of_turn>"),
    *("<|user|>", "<|assistant|>", "<|User|>", "<|Assistant|>", "<|START_OF_TURN_TOKEN|>"),
)
"""How families of language models begin a turn, where they have a token for it."""


def find_contradiction(template: str, tokenizer: Any) -> str | None:
    """Returns what a template has that a tokenizer's family has not; None where the two agree."""
    conversation = conv_templates[template]
    texts = (render_question(template, "?", 0), conversation.sep, conversation.sep2 or "")
    marks = dict.fromkeys(_MARKS.findall("".join(texts)))
    for mark in marks:
        if _token_id(mark, tokenizer) is None:
            return f"it has {mark!r}, which is no token of the tokenizer"
    end = str(tokenizer.eos_token)
    if "</s>" in marks and end != "</s>":
        return f"it ends turns with '</s>', but the tokenizer with {end!r}"
    for token in _ROLE_TOKENS:
        has_one = marks.keys() & {token, "<|im_start|>"}
        if not has_one and _token_id(token, tokenizer) is not None:
            return f"it begins turns with text, but the tokenizer has {token!r} for that"
    return None


def stop_tokens(template: str, tokenizer: Any) -> list[int]:
    """Returns the tokens that end an answer because they end a turn of the template.

    Where a family's end token ends the text and another one the turn, checkpoints do not always
    name the latter. The first LLaVA's templates need none: its own code stops at the end token.

    Raises:
        ConversationError: what a declared template stops at is no token.
    """
    conversation = conv_templates[template]
    ids = (_token_id(mark, tokenizer) for mark in _MARKS.findall(conversation.turn_end))
    known = [number for number in ids if number is not None]
    for text in conversation.stops:
        number = _token_id(text, tokenizer)
        if number is None:
            raise ConversationError(
                f"`stop` of the conversation template {template} must be one token of the model's "
                f"tokenizer, but {text!r} is none. Correct it, or leave it out where the end token "
                "ends an answer."
            )
        known.append(number)
    return known


def _token_id(text: str, tokenizer: Any) -> int | None:
    """The id of a text that is one token; None for another one."""
    number = tokenizer.convert_tokens_to_ids(text)
    is_one = number is not None and tokenizer.convert_ids_to_tokens(number) == text
    return int(number) if is_one else None


def resolve_conversation(
    *,
    forced: str | None,
    zoo: str | None,
    names: Iterable[str | None],
    tokenizer: Any = None,
) -> tuple[str, str]:
    """Returns the template's name for a checkpoint and the reason for the choice.

    Of several names of one template it is the first. A template that was not asked for must agree
    with the tokenizer: a name with `v1` in it is no Vicuna where the tokenizer is of another
    family, and a zoo entry may be given another path.

    Args:
        forced: A template that the user asked for, or None.
        zoo: The template that the model's zoo entry names, or None.
        names: What to try the name rules on, in order of rank; None entries are left out.
        tokenizer: The checkpoint's; None where a template was asked for, which needs none.

    Raises:
        ConversationError: an unknown template was asked for, no rule matches, or the template
            found contradicts the tokenizer.

    >>> resolve_conversation(forced=None, zoo=None, names=["llava-v1.6-34b"])
    ('chatml_direct', "'v1.6-34b' occurs in 'llava-v1.6-34b'")
    """
    template, reason = _choose_template(forced, zoo, [name for name in names if name])
    if forced is None and tokenizer is not None:
        contradiction = find_contradiction(template, tokenizer)
        if contradiction is not None:
            raise ConversationError(
                f"The conversation template {template} ({reason}) is not this model's: "
                f"{contradiction}. A wrong one would cost accuracy without a sign. {_name_one()} "
                f"If the model was trained in it all the same, force it: conversation={template}."
            )
    return template, reason


def _choose_template(forced: str | None, zoo: str | None, names: list[str]) -> tuple[str, str]:
    for template, reason in ((forced, "asked for"), (zoo, "named by the model's zoo entry")):
        if template is None:
            continue
        if template not in conv_templates:
            raise ConversationError(
                f"`conversation` must be one of {', '.join(conv_templates)}, but is {template!r} "
                f"({reason}). Choose one of these, or `auto`."
            )
        first = first_name(template)
        return first, reason if first == template else f"{reason} as {template}"
    matches = ((rule, name) for name in names for rule in _NAME_RULES if _occurs(rule[0], name))
    (pattern, template), name = next(matches, (("", None), ""))
    if template is not None:
        return template, f"{pattern!r} occurs in {name!r}"
    raise ConversationError(
        f"No conversation template is known for {' / '.join(map(repr, names)) or 'this model'}: a "
        f"wrong one would cost accuracy without a sign. {_name_one()}"
    )


def _occurs(pattern: str, name: str) -> bool:
    """Whether a pattern occurs in a name as whole words and numbers, `v1-5` being `v1.5`.

    `attempt-3` is no MPT, `dev1`, `v12` and `v1.7` are no v1.
    """
    rest = "[a-z]"
    if pattern[-1].isdigit():
        rest += r"|\d|\.[5-9]|\.\d\d" + ("" if "." in pattern else r"|[_-][5-9](?![\da-z])")
    words = re.escape(pattern).replace(r"\.", "[._-]")
    return bool(re.search(rf"(?<![a-z]){words}(?!{rest})", name.lower()))


def _name_one() -> str:
    return f"Name the right one with `conversation=`: {', '.join(conv_templates)}."
