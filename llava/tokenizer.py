"""The tokenizer of original checkpoints: sentencepiece itself, exact to the id.

transformers rebuilds a `tokenizer.model` as a merge table without scores, which gives other ids for
some texts, so original checkpoints are tokenized by sentencepiece here. Checkpoints that come with
a `tokenizer.json` only were trained with that and load as they are. Imports no torch.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sentencepiece
from transformers import AddedToken, PreTrainedTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llava.constants import (
    DEFAULT_IM_END_TOKEN,
    DEFAULT_IM_START_TOKEN,
    DEFAULT_IMAGE_PATCH_TOKEN,
)
from llava.errors import CheckpointError, reason_of
from llava.lfs_pointer import refuse_lfs_pointer

if TYPE_CHECKING:
    from llava.model.checkpoint import Checkpoint

_SPACE = "▁"
_MODEL_FILE = "tokenizer.model"
_FAST_FILE = "tokenizer.json"
_CACHED_CHUNKS = 4096

# A serialized ModelProto holding nothing but normalizer_spec (field 3) with add_dummy_prefix
# (field 3) false: appended to a model, protobuf merges it, and this one setting is replaced.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class SentencePieceTokenizer(PreTrainedTokenizer):
    """Tokenizes as the sentencepiece-based tokenizer of LLaMA did when LLaVA was trained.

    Args:
        vocab_file: Path of `tokenizer.model`.
        legacy: The switch of `tokenizer_config.json`. If true, every chunk of text between special
            tokens gets a leading space of its own; if false, only the start of the text does.
        add_bos_token: Whether encoding puts the begin token first.
        add_eos_token: Whether encoding puts the end token last.
        **kwargs: What `PreTrainedTokenizer` takes, special tokens included.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": _MODEL_FILE}
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: str,
        *,
        legacy: bool | None = None,
        add_bos_token: bool = True,
        add_eos_token: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vocab_file = vocab_file
        self.legacy = True if legacy is None else legacy
        model = Path(vocab_file).read_bytes()
        self.sp_model = sentencepiece.SentencePieceProcessor(
            model_proto=model if self.legacy else model + _NO_DUMMY_PREFIX
        )
        for name, token in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>")):
            kwargs[f"{name}_token"] = _as_special(kwargs.get(f"{name}_token") or token)
        self.add_bos_token = add_bos_token
        self.add_eos_token = add_eos_token
        self._added_pattern: re.Pattern[str] | None = None
        super().__init__(
            legacy=self.legacy,
            add_bos_token=add_bos_token,
            add_eos_token=add_eos_token,
            **{**kwargs, "clean_up_tokenization_spaces": False},
        )
        self._num_unk_pieces = len(self.sp_model.encode(str(self.unk_token)))
        self._cached_ids = lru_cache(_CACHED_CHUNKS)(self._uncached_ids)

    @property
    def vocab_size(self) -> int:
        """Number of pieces, added tokens not counted."""
        return int(self.sp_model.get_piece_size())

    def get_vocab(self) -> dict[str, int]:
        """Returns the id of every piece and added token."""
        pieces = {self.sp_model.id_to_piece(i): i for i in range(self.vocab_size)}
        return pieces | self._added_tokens_encoder

    def encode_text(self, text: str) -> list[int]:
        """Returns the ids of a text, begin and end tokens as configured; `self(text).input_ids`."""
        return list(self._cached_ids(text))

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Returns the pieces of a text; added and special tokens in it stay whole."""
        if not self.legacy and text:
            text = _SPACE + text.replace(_SPACE, " ")
        if self._added_tokens().search(text):
            pieces = super().tokenize(text, **kwargs)
        else:
            pieces = self._tokenize(text) if text else []
        lone_space = (
            len(pieces) > 1 and pieces[0] == _SPACE and pieces[1] in self.all_special_tokens
        )
        return pieces[1:] if lone_space and not self.legacy else pieces

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Returns the ids with begin and end tokens around each sequence, as configured."""
        begin = [self.bos_token_id] if self.add_bos_token else []
        end = [self.eos_token_id] if self.add_eos_token else []
        second = [] if token_ids_1 is None else begin + token_ids_1 + end
        return begin + token_ids_0 + end + second

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Returns the text of pieces; special tokens are written as they are."""
        tokens = list(tokens)
        if tokens and tokens[0].startswith(_SPACE):
            tokens[0] = tokens[0][1:]
        special = set(self.all_special_tokens)
        text, run, after_special = "", [], False
        for i, token in enumerate(tokens):
            if token not in special:
                run.append(token)
                after_special = False
                continue
            if self.legacy and i and not after_special:
                text += " "
            text += self.sp_model.decode(run) + token
            run, after_special = [], True
        return text + self.sp_model.decode(run)

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Copies `tokenizer.model` into a folder and returns the path of the copy."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        target = Path(save_directory) / (prefix + _MODEL_FILE)
        if Path(self.vocab_file).resolve() != target.resolve():
            shutil.copyfile(self.vocab_file, target)
        return (str(target),)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        if self.legacy or not text.startswith((_SPACE, " ")):
            return self.sp_model.encode(text, out_type=str)
        # sentencepiece strips leading spaces, so something else has to stand before them
        pieces = self.sp_model.encode(str(self.unk_token) + text, out_type=str)
        return pieces[self._num_unk_pieces :]

    def _uncached_ids(self, text: str) -> tuple[int, ...]:
        ids = self.convert_tokens_to_ids(self.tokenize(text))
        return tuple(self.build_inputs_with_special_tokens(ids))

    def _added_tokens(self) -> re.Pattern[str]:
        """Matches any added or special token; built anew when tokens are added."""
        if self._added_pattern is None:
            tokens = {*self._added_tokens_encoder, *self.all_special_tokens}
            self._added_pattern = re.compile("|".join(map(re.escape, sorted(tokens))))
        return self._added_pattern

    def _add_tokens(
        self, new_tokens: list[str] | list[AddedToken], special_tokens: bool = False
    ) -> int:
        added = super()._add_tokens(new_tokens, special_tokens=special_tokens)
        self._added_pattern = None
        if hasattr(self, "_cached_ids"):
            self._cached_ids.cache_clear()
        return added

    def _convert_token_to_id(self, token: str) -> int:
        return self.sp_model.piece_to_id(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.sp_model.id_to_piece(index)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,  # noqa: ARG002 - never cleaned up
        **_: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        plain_added = self._added_tokens_encoder.keys() - set(self.all_special_tokens)
        parts: list[str] = []
        run: list[str] = []
        for token in self.convert_ids_to_tokens(ids, skip_special_tokens=skip_special_tokens):
            if token not in plain_added:
                run.append(token)
                continue
            if run:
                parts.append(self.convert_tokens_to_string(run))
            parts.append(token)
            run = []
        if run:
            parts.append(self.convert_tokens_to_string(run))
        return " ".join(parts)


def load_tokenizer(folder: str | Path, *, legacy: bool | None = None) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that lies in a checkpoint folder.

    Args:
        folder: A local folder with `tokenizer.model` (original checkpoints) or `tokenizer.json`.
        legacy: Overrides the switch of `tokenizer_config.json`; see `SentencePieceTokenizer`.

    Raises:
        CheckpointError: neither file is there, or it cannot be read or is a Git LFS pointer.
    """
    folder = Path(folder)
    name = next((name for name in (_MODEL_FILE, _FAST_FILE) if (folder / name).is_file()), None)
    if name is None:
        raise CheckpointError(
            f"No tokenizer lies in {folder}: neither {_MODEL_FILE} nor {_FAST_FILE}. Copy it from "
            "the base model's folder, or give the base with `model.base=`."
        )
    try:
        refuse_lfs_pointer(folder / name)
        if name == _FAST_FILE:
            return PreTrainedTokenizerFast.from_pretrained(str(folder), **_clean_up(folder))
        options = {} if legacy is None else {"legacy": legacy}
        return SentencePieceTokenizer.from_pretrained(str(folder), **options)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The tokenizer {folder / name} cannot be read: {reason_of(error)}. Copy it "
            "again from the original checkpoint."
        ) from error


def load_checkpoint_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that goes with a checkpoint, image tokens added as its config asks.

    Raises:
        CheckpointError: the tokenizer cannot be read.
    """
    from llava.model.checkpoint import CheckpointKind

    # the reference loads a complete Mistral with the merge-table tokenizer, which always behaves as
    # the legacy switch says
    complete = checkpoint.kind is CheckpointKind.LLAVA
    legacy = True if checkpoint.family == "mistral" and complete else None
    tokenizer = load_tokenizer(checkpoint.tokenizer_dir, legacy=legacy)
    if checkpoint.is_multimodal:
        add_image_tokens(tokenizer, checkpoint.config)
    return tokenizer


def add_image_tokens(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> None:
    """Adds the tokens that a LLaVA config asks for, where the tokenizer lacks them.

    Args:
        tokenizer: Changed in place.
        config: `mm_use_im_patch_token` (absent means true) and `mm_use_im_start_end`.
    """
    if config.get("mm_use_im_patch_token", True):
        tokenizer.add_tokens([DEFAULT_IMAGE_PATCH_TOKEN], special_tokens=True)
    if config.get("mm_use_im_start_end", False):
        tokenizer.add_tokens([DEFAULT_IM_START_TOKEN, DEFAULT_IM_END_TOKEN], special_tokens=True)


def _clean_up(folder: Path) -> dict[str, bool]:
    """Whether spaces before punctuation are dropped from decoded text, as options.

    They were when LLaVA's MPT was evaluated, unless the tokenizer's configuration says otherwise;
    today that has to be insisted on.
    """
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    is_llama = str(config.get("tokenizer_class")).startswith("Llama")
    clean_up = bool(config.get("clean_up_tokenization_spaces", not is_llama))
    return {
        "clean_up_tokenization_spaces": clean_up,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": clean_up,
    }


def _as_special(token: str | AddedToken) -> AddedToken:
    if isinstance(token, AddedToken):
        return token
    return AddedToken(token, lstrip=False, rstrip=False, normalized=False, special=True)
