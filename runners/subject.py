"""The checkpoint under evaluation as the parent sees it: files, tokenizer, template; no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.conversation import resolve_conversation
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.tokenizer import add_image_tokens, load_tokenizer
from runners.config import EvalConfig
from runners.files import sha256_of_file
from runners.naming import model_name
from runners.predict import PromptRenderer


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is evaluated.

    Attributes:
        name: The model's name.
        checkpoint: What lies in the checkpoint's folder.
        template: Name of the conversation template.
        template_reason: Why it is this one.
    """

    name: str
    checkpoint: Checkpoint
    template: str
    template_reason: str

    def file_hashes(self) -> dict[str, dict[str, str]]:
        """Returns the hash of every file that decides an answer, by folder role and file name."""
        roles = {
            self.checkpoint.path: "checkpoint",
            self.checkpoint.base: "base",
            self.checkpoint.tower_dir: "tower",
        }
        hashes: dict[str, dict[str, str]] = {}
        for path in self.checkpoint.files:
            role = roles[path.parent] if path.parent in roles else str(path.parent)
            hashes.setdefault(role, {})[path.name] = sha256_of_file(path)
        return hashes

    def build_renderer(self) -> PromptRenderer:
        """Returns what renders questions for this checkpoint.

        Raises:
            CheckpointError: the tokenizer cannot be read.
        """
        checkpoint = self.checkpoint
        # As the loader does it, where the model's embeddings are made to fit.
        legacy = True if checkpoint.family == "mistral" else None
        tokenizer = load_tokenizer(checkpoint.tokenizer_dir, legacy=legacy)
        if checkpoint.is_multimodal:
            add_image_tokens(tokenizer, checkpoint.config)
        marks_images = bool(checkpoint.config.get("mm_use_im_start_end", False))
        return PromptRenderer(self.template, tokenizer, marks_images=marks_images)


def inspect_subject(settings: EvalConfig) -> Subject:
    """Returns the checkpoint that the options name, its parts found and its template resolved.

    Raises:
        CheckpointError: a part of the checkpoint is missing or unreadable.
        ConversationError: no template is known for it, or the one asked for does not exist.
    """
    model, name = settings.model, model_name(settings)
    checkpoint = inspect_checkpoint(model.path, model.base, name, model.revision)
    template, reason = resolve_conversation(
        forced=settings.conversation.template,
        zoo=model.conversation,
        names=[name, *_other_names(model.path, model.base, checkpoint.config)],
    )
    return Subject(name=name, checkpoint=checkpoint, template=template, template_reason=reason)


def _other_names(path: str, base: str | None, config: Any) -> list[str | None]:
    """What the template may be told from if not from the model's name."""
    parent = Path(path).resolve().parent.name if Path(path).is_dir() else None
    return [parent, base, config.get("_name_or_path")]
