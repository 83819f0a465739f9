"""Conversation templates: how turns become the prompt that a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial
from typing import Any

from llava.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN, DEFAULT_IMAGE_TOKEN

DECLARED = "declared"
"""The `version` of templates that are declared outside of the package."""


class SeparatorStyle(Enum):
    """How roles, messages and separators are joined."""

    SINGLE = auto()
    TWO = auto()
    MPT = auto()
    PLAIN = auto()
    LLAMA_2 = auto()
    LLAMA_3 = auto()
    CHATML = auto()
    GEMMA = auto()


@dataclass(kw_only=True)
class Conversation:
    """A template together with the turns spoken so far.

    Attributes:
        system: The system text, roles and markup included where the format needs them.
        roles: Names of the user and of the assistant.
        messages: Turns as [role, message]; a message is text, None (to be written by the model) or
            a tuple whose first item is the text and which stands for a turn with an image.
        offset: How many of the first messages are preset examples.
        sep_style: How the parts are joined.
        sep: Separator after the system text and after user turns.
        sep2: Separator after assistant turns, where it differs.
        version: Family of the template.
        stop_str: Text that ends an answer; None where the end token alone does.
        stop_token_ids: Tokens of the full-size tokenizer that end an answer beside its end token.
        stops: What ends an answer too: texts that are one token each; of declared templates.
    """

    system: str
    roles: tuple[str, str]
    messages: list[list[Any]] = field(default_factory=list)
    offset: int = 0
    sep_style: SeparatorStyle = SeparatorStyle.SINGLE
    sep: str = "###"
    sep2: str | None = None
    version: str = "Unknown"
    stop_str: str | None = None
    stop_token_ids: list[int] | None = None
    stops: tuple[str, ...] = ()

    @property
    def turn_end(self) -> str:
        """What ends the turn of the model, beside the end token; often empty."""
        closes = self.sep if self.sep_style in _CLOSED_ALIKE else ""
        return (self.stop_str or "") + closes

    def append_message(self, role: str, message: Any) -> None:
        """Adds a turn; None as message leaves it open for the model."""
        self.messages.append([role, message])

    def copy(self) -> Conversation:
        """Returns an independent conversation with the same template and turns."""
        return replace(self, messages=[list(message) for message in self.messages])

    def get_prompt(self) -> str:
        """Returns the turns joined as the model expects them.

        Raises:
            ValueError: a format that needs it lacks the first user message.
        """
        turns = self._turns()
        if self.sep_style is SeparatorStyle.LLAMA_2:
            return self._join_llama_2(turns)
        if self.sep_style is SeparatorStyle.LLAMA_3:
            return self._join_llama_3(turns)
        system, closed, opened = _FORMS[self.sep_style]
        # LLaVA's own code ends an empty system text too
        begins = self.system or (self.version != DECLARED and self.sep_style not in _CLOSED_ALIKE)
        prompt = system.format(system=self.system, sep=self.sep) if begins else ""
        alternates = self.sep_style in (SeparatorStyle.TWO, SeparatorStyle.PLAIN)
        for i, (role, text) in enumerate(turns):
            separator = self.sep2 if alternates and i % 2 else self.sep
            if text and separator is None:
                raise ValueError(
                    f"`sep2` must be a string to close turn {i + 1} in style "
                    f"{self.sep_style.name}, but is None. Leave the last turn open or choose "
                    "another template."
                )
            prompt += (closed if text else opened).format(role=role, text=text, sep=separator)
        return prompt

    def _turns(self) -> list[tuple[str, str | None]]:
        """The turns as text; an image turn gets its placeholder at the place the format wants."""
        turns = [
            (role, text[0] if isinstance(text, tuple) else text) for role, text in self.messages
        ]
        if self.messages and isinstance(self.messages[0][1], tuple):
            role, text = turns[0]
            text = (text or "").replace("<image>", "").strip()
            if "mmtag" in self.version:
                turns[:1] = [
                    (self.roles[0], "<Image><image></Image>"),
                    (self.roles[1], "Received."),
                    (role, text),
                ]
            else:
                turns[0] = (role, "<image>\n" + text)
        return turns

    def _join_llama_2(self, turns: Sequence[tuple[str, str | None]]) -> str:
        if not turns or not turns[0][1] or turns[0][0] != self.roles[0]:
            raise ValueError(
                f"The first message must be text from role {self.roles[0]!r}, but is "
                f"{list(turns[:1])!r}. Start the conversation with a user turn."
            )
        prompt = ""
        for i, (_, text) in enumerate(turns):
            if not text:
                continue
            if i % 2:
                prompt += f" {text} {self.sep2}"
            else:
                system = f"<<SYS>>\n{self.system}\n<</SYS>>\n\n" if i == 0 and self.system else ""
                prompt += f"{self.sep}[INST] {system}{text} [/INST]"
        return prompt.lstrip(self.sep)

    def _join_llama_3(self, turns: Sequence[tuple[str, str | None]]) -> str:
        """The chat template of Llama 3; the turn of the model is always open at its end."""
        header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
        said = [("system", self.system)] if self.system else []
        said += [(role, text) for role, text in turns if text]
        parts = [header(role) + text.strip() + self.sep for role, text in said]
        return ("<|begin_of_text|>" if self.system else "") + "".join(parts) + header("assistant")


_FORMS = {
    SeparatorStyle.SINGLE: ("{system}{sep}", "{role}: {text}{sep}", "{role}:"),
    SeparatorStyle.TWO: ("{system}{sep}", "{role}: {text}{sep}", "{role}:"),
    SeparatorStyle.MPT: ("{system}{sep}", "{role}{text}{sep}", "{role}"),
    SeparatorStyle.PLAIN: ("{system}", "{text}{sep}", ""),
    SeparatorStyle.CHATML: ("{system}{sep}\n", "{role}\n{text}{sep}\n", "{role}\n"),
    SeparatorStyle.GEMMA: ("", "{role}{text}{sep}", "{role}"),
}
"""How a style writes the system text, a turn, and a turn that is left open."""

_CLOSED_ALIKE = (SeparatorStyle.CHATML, SeparatorStyle.GEMMA, SeparatorStyle.LLAMA_3)
"""Styles in which every turn ends with the separator, and an empty system text is left out."""

_CURIOUS_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
_CURIOUS_USER = _CURIOUS_HUMAN.replace("human", "user")
_MMTAG_FORMAT = (
    "The visual content will be provided with the following format: <Image>visual content</Image>."
)
_MMTAG = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant is able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language." + _MMTAG_FORMAT
)
_VISION_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
_VISUAL_CONTENT = "Answer the questions about the visual content that the user provides."
_FEW_SHOT = [
    ["Human", "What are the key differences between renewable and non-renewable energy sources?"],
    [
        "Assistant",
        "Renewable energy sources are those that can be replenished naturally in a relatively "
        "short amount of time, such as solar, wind, hydro, geothermal, and biomass. "
        "Non-renewable energy sources, on the other hand, are finite and will eventually be "
        "depleted, such as coal, oil, and natural gas. Here are some key differences between "
        "renewable and non-renewable energy sources:\n"
        "1. Availability: Renewable energy sources are virtually inexhaustible, while "
        "non-renewable energy sources are finite and will eventually run out.\n"
        "2. Environmental impact: Renewable energy sources have a much lower environmental impact "
        "than non-renewable sources, which can lead to air and water pollution, greenhouse gas "
        "emissions, and other negative effects.\n"
        "3. Cost: Renewable energy sources can be more expensive to initially set up, but they "
        "typically have lower operational costs than non-renewable sources.\n"
        "4. Reliability: Renewable energy sources are often more reliable and can be used in more "
        "remote locations than non-renewable sources.\n"
        "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to "
        "different situations and needs, while non-renewable sources are more rigid and "
        "inflexible.\n"
        "6. Sustainability: Renewable energy sources are more sustainable over the long term, "
        "while non-renewable sources are not, and their depletion can lead to economic and social "
        "instability.\n",
    ],
]
_LLAMA_2_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe.  Your answers should not include any harmful, unethical, racist, sexist, "
    "toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased "
    "and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of "
    "answering something not correct. If you don't know the answer to a question, please don't "
    "share false information."
)

_HUMAN = ("Human", "Assistant")
_USER = ("USER", "ASSISTANT")
_CHATML = ("<|im_start|>user\n", "<|im_start|>assistant\n")

_two = partial(Conversation, roles=_USER, sep_style=SeparatorStyle.TWO, sep=" ", sep2="</s>")
_llama_2 = partial(
    Conversation, roles=_USER, version="llama_v2", sep_style=SeparatorStyle.LLAMA_2, sep2="</s>"
)
_llama_3 = partial(
    Conversation,
    roles=("user", "assistant"),
    version="llama_v3",
    sep_style=SeparatorStyle.LLAMA_3,
    sep="<|eot_id|>",
)
_qwen = partial(
    Conversation,
    roles=("<|im_start|>user", "<|im_start|>assistant"),
    version="qwen",
    sep_style=SeparatorStyle.CHATML,
    sep="<|im_end|>",
)
_gemma = partial(Conversation, system="", sep_style=SeparatorStyle.GEMMA)
_mpt = partial(
    Conversation, roles=_CHATML, version="mpt", sep_style=SeparatorStyle.MPT, sep="<|im_end|>"
)

_VICUNA_V0 = Conversation(system=_CURIOUS_HUMAN, roles=_HUMAN, messages=_FEW_SHOT, offset=2)
_VICUNA_V1 = _two(system=_CURIOUS_USER, version="v1")
_PLAIN = Conversation(system="", roles=("", ""), sep_style=SeparatorStyle.PLAIN, sep="\n")
_CHATML_DIRECT = _mpt(system="<|im_start|>system\nAnswer the questions.")
_MISTRAL_INSTRUCT = _llama_2(system="", sep="")
_V0_MMTAG = Conversation(system=_MMTAG, roles=_HUMAN, version="v0_mmtag")
_V1_MMTAG = _two(system=_MMTAG, version="v1_mmtag")
_QWEN_1_5 = _qwen(system="<|im_start|>system\nYou are a helpful assistant.")

conv_templates: dict[str, Conversation] = {
    "v0": _VICUNA_V0,
    "default": _VICUNA_V0,
    "vicuna_v1": _VICUNA_V1,
    "v1": _VICUNA_V1,
    "llama_2": _llama_2(system=_LLAMA_2_SYSTEM, sep="<s>"),
    "mistral_instruct": _MISTRAL_INSTRUCT,
    "chatml_direct": _CHATML_DIRECT,
    "mistral_direct": _CHATML_DIRECT,
    "plain": _PLAIN,
    "v0_plain": _PLAIN,
    "llava_v0": Conversation(system=_CURIOUS_HUMAN, roles=_HUMAN),
    "v0_mmtag": _V0_MMTAG,
    "llava_v1": _two(system=_CURIOUS_HUMAN, version="v1"),
    "v1_mmtag": _V1_MMTAG,
    "llava_llama_2": _llama_2(system=_VISION_SYSTEM, sep="<s>"),
    "llava_llama_2_simple": _llama_2(system=_VISUAL_CONTENT, sep="<s>"),
    "llava_llama_2_mmtag": _llama_2(
        system=_VISUAL_CONTENT + _MMTAG_FORMAT, sep="<s>", version="llama_v2_mmtag"
    ),
    "llava_mistral_instruct": _MISTRAL_INSTRUCT,
    "llava_v0_mmtag": _V0_MMTAG,
    "llava_v1_mmtag": _V1_MMTAG,
    "llava_llama_3": _llama_3(system=_VISION_SYSTEM, stop_token_ids=[128009]),
    "llama_3": _llama_3(system=""),
    "qwen_1_5": _QWEN_1_5,
    "qwen_2": _QWEN_1_5,
    "qwen_2_5": _qwen(
        system="<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
        "assistant."
    ),
    "gemma_instruct": _gemma(
        roles=("<start_of_turn>user\n", "<start_of_turn>model\n"),
        sep="<end_of_turn>\n",
        version="gemma",
    ),
    "phi3_instruct": Conversation(
        system="<|system|>\nYou are a helpful AI assistant.",
        roles=("\n<|user|>\n", "\n<|assistant|>\n"),
        sep_style=SeparatorStyle.MPT,
        sep="<|end|>",
        version="phi3",
        stop_str="<|end|>",
    ),
    "phi3_chat": _gemma(roles=("<|user|>\n", "<|assistant|>\n"), sep="<|end|>\n", version="phi3"),
    "mistral_orca": _mpt(
        system="<|im_start|>system\nYou are MistralOrca, a large language model trained by "
        "Alignment Lab AI. Write out your reasoning step-by-step to be sure you get the right "
        "answers!"
    ),
    "mistral_zephyr": _mpt(
        system="<|system|>\nYou are a helpful AI assistant.",
        roles=("<|user|>\n", "<|assistant|>\n"),
        sep="</s>",
    ),
    "mpt": _mpt(
        system="<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. "
        "The assistant gives helpful and honest answers."
    ),
}
"""Every template by its name; copy one before adding turns. Of several names of one template, the
first is the one that runs are known by, see `first_name`."""


def first_name(template: str) -> str:
    """Returns the first of the names that a template has; an unknown name as it is.

    >>> first_name("v1"), first_name("no such")
    ('vicuna_v1', 'no such')
    """
    wanted = conv_templates.get(template)
    return next((name for name, one in conv_templates.items() if one == wanted), template)


def render_question(
    template: str, text: str, num_images: int, *, marks_images: bool = False
) -> str:
    r"""Returns the prompt of one question: its images and text, and the open assistant turn.

    Each image is a placeholder line in front of the text, between start and end tokens for a
    checkpoint that `marks_images`. A text that places its images itself, one `<image>` each, is
    left as it is.

    >>> render_question("plain", "What is it?", 1)
    '<image>\nWhat is it?\n'
    """
    placeholder = DEFAULT_IMAGE_TOKEN
    if marks_images:
        placeholder = DEFAULT_IM_START_TOKEN + DEFAULT_IMAGE_TOKEN + DEFAULT_IM_END_TOKEN
    if num_images and text.count(DEFAULT_IMAGE_TOKEN) == num_images:
        turn = text.replace(DEFAULT_IMAGE_TOKEN, placeholder)
    else:
        turn = (placeholder + "\n") * num_images + text
    return open_question(template, turn).get_prompt()


def open_question(template: str, turn: str) -> Conversation:
    """Returns the conversation of one question, the assistant's turn open."""
    conversation = conv_templates[template].copy()
    conversation.append_message(conversation.roles[0], turn)
    conversation.append_message(conversation.roles[1], None)
    return conversation
