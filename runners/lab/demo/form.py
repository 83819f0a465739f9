"""What the formats of demo checkpoints differ in; all else of their training is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llava.conversation import render_question
from llava.tiling import Layout, read_layout

Fields = Mapping[str, Any]
"""Content of a JSON file."""

PATCH_SIZE = 8
TOWER_WIDTH, LANGUAGE_WIDTH = 96, 128
PROJECTOR_TYPE = "mlp2x_gelu"
SELECT_LAYER = -2
CONTEXT_LENGTH = 2048
# Every width is a multiple of 32, which NF4 on a CPU needs.
TOWER_SIZES: Mapping[str, int] = {
    "hidden_size": TOWER_WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 3,  # the features come from behind the second
    "num_attention_heads": 3,
}
LANGUAGE_SIZES: Mapping[str, int] = {
    "hidden_size": LANGUAGE_WIDTH,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A format of checkpoints, with the sizes that the demo has in it.

    Attributes:
        checkpoint: Name of the trained checkpoint.
        early: Name of what is kept of the same run's beginning; None for nothing.
        conversation: The template of all prompts.
        train_tokenizer: Makes the content of `tokenizer_file` from texts.
        tokenizer_file: Where the tokenizer lies in the checkpoint.
        tokenizer_configs: What stands beside it, by file name.
        space: How a piece of the tokenizer begins that stands behind a space.
        line_break: How a piece ends that ends a line.
        build_tower: Makes the vision model, untrained.
        build_language: Makes the language model, untrained.
        view_size: Side of what the tower sees at once, in pixels.
        has_class_token: Whether a feature for the whole view goes before those of the patches.
        tunes_tower: Whether the tower goes on learning with the language model.
        processor: Prepares a view for the tower.
        tower_config: The tower's config.json.
        processor_config: Its preprocessor_config.json.
        config: The checkpoint's config.json.
        generation_config: Its generation_config.json.
    """

    checkpoint: str
    early: str | None
    conversation: str
    train_tokenizer: Callable[[Iterable[str]], bytes]
    tokenizer_file: str
    tokenizer_configs: Mapping[str, Fields]
    space: str
    line_break: str
    build_tower: Callable[[], Any]
    build_language: Callable[[], Any]
    view_size: int
    has_class_token: bool
    tunes_tower: bool
    processor: Any
    tower_config: Fields
    processor_config: Fields
    config: Fields
    generation_config: Fields

    @property
    def tower(self) -> str:
        """Name of the vision tower."""
        return str(self.config["mm_vision_tower"])

    @property
    def layout(self) -> Layout:
        """How pictures are laid out for the tower."""
        return read_layout(self.config)

    @property
    def num_breaks_behind(self) -> int:
        """Line breaks of a prompt behind the user's text."""
        return render_question(self.conversation, "?", 0).rpartition("?")[2].count("\n")
