"""The checkpoint under evaluation as the parent sees it: files, tokenizer, template; no weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evals.records import Sample
from llava.content_hash import cached_hash
from llava.errors import CheckpointError, ConversationError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.model.kinds import NON_LORA_FILE, CheckpointKind
from llava.template_choice import resolve_conversation, stop_tokens
from llava.tokenizer import load_checkpoint_tokenizer
from runners.evaluation.prompts import PromptRenderer
from runners.options.engine import EngineOptions
from runners.options.include import declared_templates
from runners.options.model import SubjectConfig
from runners.options.names import model_name
from runners.workers.loaded_files import find_weights, hash_small_files
from runners.workers.messages import LoadModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is evaluated; with the name of its conversation template, and why it is this one.

    `model_template` is the one that is taken where none is asked for; None where none is known.
    """

    name: str
    checkpoint: Checkpoint
    template: str
    template_reason: str
    model_template: str | None

    @property
    def marks_images(self) -> bool:
        """Whether the checkpoint wants images between start and end tokens."""
        return bool(self.checkpoint.config.get("mm_use_im_start_end", False))

    @property
    def vision_remedy(self) -> str:
        """What to do where a plain language model is to be shown images."""
        if self.checkpoint.kind is CheckpointKind.PLAIN_ADAPTER:
            return (
                f"{self.checkpoint.path} holds a LoRA adapter alone: its config.json and "
                f"{NON_LORA_FILE}, with the projector, are missing. LLaVA writes them as they are "
                "when a training ends: copy them for its last step, and for an earlier one have "
                "the training save them."
            )
        return (
            "Give a LLaVA checkpoint, or the adapter or projector that was trained over this "
            "model, with `model.path=`, and this one as `model.base=`."
        )

    def known_hashes(self) -> tuple[dict[str, dict[str, str]], dict[str, list[Path]]]:
        """Returns the hashes of what decides an answer, and weights whose hash is not known.

        The former are by folder role and name, where `weights` stands for all tensors of a role;
        the latter by folder role. What has changed since it was hashed is not known.
        """
        hashes = hash_small_files(self.checkpoint)
        unknown = {}
        for role, paths in find_weights(self.checkpoint).items():
            content_hash = cached_hash(paths)
            if content_hash is None:
                unknown[role] = paths
            else:
                hashes.setdefault(role, {})["weights"] = content_hash
        return hashes, unknown

    def require_vision(self, task: str, samples: Iterable[Sample]) -> None:
        """Checks that the model can be asked about the images of a task.

        Raises:
            CheckpointError: it has no vision tower, and there are some.
        """
        number = sum(bool(sample.images) for sample in samples)
        if number and not self.checkpoint.is_multimodal:
            raise CheckpointError(
                f"{self.name} is a language model without a vision tower, but {number:,} questions "
                f"of {task} show images. {self.vision_remedy}"
            )

    def require_choices(self, samples: Sequence[Sample]) -> None:
        """Checks that the model can rank the choices of questions, where they have any.

        Raises:
            CheckpointError: the tokenizer cannot be read.
            ConfigError: as `PromptRenderer.find_choices`.
        """
        if any(sample.choices for sample in samples):
            self.build_renderer().require_choices(samples)

    def build_renderer(self) -> PromptRenderer:
        """Returns what renders questions for this checkpoint.

        Raises:
            CheckpointError: the tokenizer cannot be read.
        """
        tokenizer = load_checkpoint_tokenizer(self.checkpoint)
        return PromptRenderer(self.template, tokenizer, marks_images=self.marks_images)

    def load_order(
        self,
        settings: SubjectConfig,
        *,
        dtype: str,
        engine: EngineOptions,
        source: str | None = None,
    ) -> LoadModel:
        """Returns what a worker needs to build the model, in the given dtype, and the engine.

        `source` is the hash of the code that a run of several processes began with.
        """
        base = self.checkpoint.base
        return LoadModel(
            path=str(self.checkpoint.path),
            base=None if base is None else str(base),
            name=self.name,
            dtype=dtype,
            quantization=settings.quantization,
            attention=settings.model.attention,
            vision_tower_dtype=settings.model.vision_tower_dtype,
            template=self.template,
            declared=declared_templates().get(self.template),
            tf32=settings.model.tf32,
            engine=engine,
            source=source,
        )

    def dtype(self, asked: str | None) -> str | None:
        """Returns the dtype that is asked for; for `auto`, the one that the files were saved in."""
        if asked != "auto":
            return asked
        config = self.checkpoint.config
        return str(config.get("torch_dtype") or config.get("dtype") or "float32")


def inspect_subject(settings: SubjectConfig) -> Subject:
    """Returns the checkpoint that the options name, its parts found and its template resolved.

    Raises:
        CheckpointError: a part of the checkpoint is missing or unreadable.
        ConversationError: no template is known for it, the one that its name stands for
            contradicts its tokenizer, or the one asked for does not exist.
    """
    model, name = settings.model, model_name(settings)
    if model.revision is not None and Path(model.path).expanduser().is_dir():
        logger.warning(
            "`model.path` is the folder %s, and has no revision %s, which a hub id has: what lies "
            "there is taken",
            *(model.path, model.revision),
        )
    held = settings.quantization
    if held.name in ("none", "int8") and (held.compute_dtype or not held.double_quant):
        logger.warning(
            "quantization.compute_dtype and quantization.double_quant are for nf4 and fp4, and "
            "have no effect on quantization=%s",
            held.name,
        )
    checkpoint = inspect_checkpoint(model.path, model.base, name, model.revision)
    parent = Path(model.path).resolve().parent.name if Path(model.path).is_dir() else None
    forced, tokenizer = settings.conversation.template, load_checkpoint_tokenizer(checkpoint)
    resolve = partial(
        resolve_conversation,
        zoo=model.conversation,
        names=[name, parent, model.base, checkpoint.config.get("_name_or_path")],
        tokenizer=tokenizer,
    )
    template, reason = resolve(forced=forced)
    model_template: str | None = template
    if forced:
        try:
            model_template, _ = resolve(forced=None)
        except ConversationError:
            model_template = None
    if template in declared_templates():
        stop_tokens(template, tokenizer)  # refused now, not by a worker
    return Subject(
        name=name,
        checkpoint=checkpoint,
        template=template,
        template_reason=reason,
        model_template=model_template,
    )
