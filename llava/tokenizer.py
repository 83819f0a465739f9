"""The tokenizer of original checkpoints: sentencepiece itself, exact to the id.

transformers rebuilds a `tokenizer.model` as a merge table without scores, which gives other ids for
some texts, so original checkpoints are tokenized by sentencepiece here. Checkpoints that come with
a `tokenizer.json` only were trained with that and are tokenized by it. Imports no torch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece
from tokenizers import decoders, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llava.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN, DEFAULT_IMAGE_PATCH_TOKEN
from llava.errors import CheckpointError, reason_of
from llava.model.checkpoint import Checkpoint
from llava.model.facts import read_tokenizer_config
from llava.model.kinds import CheckpointKind
from llava.model.locate import find_tokenizer_file, read_config, refuse_lfs_pointer

_SPACE = "▁"
_MODEL_FILE = "tokenizer.model"
_CACHED_PIECES = 65_536
_NEOX_TOKEN = "<|endoftext|>"
_KEEPING_SPACES = ("Llama", "Qwen2", "Gemma")
_SWITCHES = ("add_bos_token", "add_eos_token")

_MERGE_TABLE_DECODER = decoders.Sequence(
    [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(content=" ", left=1),
    ]
)

# A serialized ModelProto holding nothing but normalizer_spec (field 3) with add_dummy_prefix
# (field 3) false: appended to a model, protobuf merges it, and this one setting is replaced.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class _WithoutMethods(PreTrainedTokenizerBase):
    """Leaves out fields of `tokenizer_config.json` that have the name of a method.

    They steer nothing, such as `add_special_tokens`, but the library refuses them.
    """

    @classmethod
    def convert_to_native_format(cls, **kwargs: Any) -> dict[str, Any]:
        """Returns what a tokenizer is made with."""
        fields = {n: value for n, value in kwargs.items() if not callable(getattr(cls, n, None))}
        return super().convert_to_native_format(**fields)


class FastTokenizer(_WithoutMethods, PreTrainedTokenizerFast):
    """Tokenizes as `tokenizer.json` says."""


class SentencePieceTokenizer(_WithoutMethods, PreTrainedTokenizer):
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
        self._cached_piece_id = lru_cache(_CACHED_PIECES)(self.convert_tokens_to_ids)
        super().__init__(
            legacy=self.legacy, add_bos_token=add_bos_token, add_eos_token=add_eos_token, **kwargs
        )
        self._num_unk_pieces = len(self.sp_model.encode(str(self.unk_token)))

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
        ids = map(self._cached_piece_id, self.tokenize(text))
        return self.build_inputs_with_special_tokens(list(ids))

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Returns the pieces of a text; added and special tokens in it stay whole."""
        if not self.legacy and text:
            text = _SPACE + text.replace(_SPACE, " ")
        if self._added_pattern.search(text):
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
        """Returns the text of tokens, with a space on both sides of those that are not pieces."""
        spaced = self._added_tokens_encoder.keys() - set(self.all_special_tokens)
        for token in self.extra_special_tokens:
            if self.convert_tokens_to_ids(token) >= self.vocab_size:
                spaced.add(token)
        parts: list[str] = []
        for is_spaced, group in groupby(tokens, spaced.__contains__):
            run = list(group)
            parts += run if is_spaced else [self._text_of_pieces(run)]
        # pieces that have no text get no space either, but at the end
        return " ".join([*filter(None, parts[:-1]), *parts[-1:]])

    def _text_of_pieces(self, tokens: list[str]) -> str:
        """The text of pieces; special tokens are written as they are."""
        if tokens[0].startswith(_SPACE):
            tokens[0] = tokens[0][1:]
        special = set(self.all_special_tokens)
        runs = [(key, list(run)) for key, run in groupby(tokens, special.__contains__)]
        text = ""
        for number, (is_special, run) in enumerate(runs, 1):
            if self.legacy and not is_special and number < len(runs):
                text += " "  # before what a special token follows
            text += "".join(run) if is_special else self.sp_model.decode(run)
        return text

    def save_chat_templates(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], list[str]]:
        """Returns what to save in `tokenizer_config.json`, with what the library leaves out."""
        config, files = super().save_chat_templates(*args, **kwargs)
        return config | {name: getattr(self, name) for name in _SWITCHES}, files

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

    def _add_tokens(
        self, new_tokens: list[str] | list[AddedToken], special_tokens: bool = False
    ) -> int:
        added = super()._add_tokens(new_tokens, special_tokens=special_tokens)
        tokens = map(re.escape, sorted(self._added_tokens_encoder))
        self._added_pattern = re.compile("|".join(tokens))
        self._cached_piece_id.cache_clear()
        return added

    def _convert_token_to_id(self, token: str) -> int:
        return self.sp_model.piece_to_id(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.sp_model.id_to_piece(index)

    def _decode(
        self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: Any
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        # a model may have rows for more tokens than there are; they have no text
        ids = [i for i in ids if i < self.vocab_size or i in self._added_tokens_decoder]
        return super()._decode(ids, skip_special_tokens, **kwargs)


class MergeTableTokenizer(SentencePieceTokenizer):
    """Tokenizes and decodes as transformers' LlamaTokenizerFast, with which LLaVA loads Mistral.

    `legacy` does not count: it is always true.
    """

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        super().__init__(vocab_file, **{**kwargs, "legacy": True})

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Returns the text of tokens; one space at its start is dropped."""
        return _MERGE_TABLE_DECODER.decode(tokens)

    def _add_tokens(
        self, new_tokens: list[str] | list[AddedToken], special_tokens: bool = False
    ) -> int:
        # given as strings, tokens that are there already would not become special
        if special_tokens:
            new_tokens = [_as_special(token) for token in new_tokens]
        return super()._add_tokens(new_tokens, special_tokens=special_tokens)

    def _decode(
        self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: Any
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        if skip_special_tokens:
            special = {i for i, token in self._added_tokens_decoder.items() if token.special}
            ids = [i for i in ids if i not in special]
        return super()._decode(ids, skip_special_tokens, **kwargs)


def load_tokenizer(folder: str | Path, *, merge_table: bool = False) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a checkpoint folder, from `tokenizer.model` or `tokenizer.json`.

    With `merge_table` the former is used as `MergeTableTokenizer` does.

    Raises:
        CheckpointError: neither file is there, it cannot be read or is a Git LFS pointer, or a JSON
            file beside it is not understood.
    """
    folder = Path(folder)
    file = find_tokenizer_file(folder)
    config = read_tokenizer_config(folder)
    try:
        refuse_lfs_pointer(file)
        if file.name != _MODEL_FILE:
            return _load_fast_tokenizer(folder, config)
        kind = MergeTableTokenizer if merge_table else SentencePieceTokenizer
        # left to itself, the library drops these beside a tokenizer.json, and a file named
        # tokenizer.model.v3 keeps it from finding the vocabulary
        given = {name: config[name] for name in _SWITCHES if name in config}
        return kind.from_pretrained(str(folder), vocab_file=str(file), **given)
    except CheckpointError:
        raise
    except Exception as error:  # the package tokenizers has no class of its own
        raise CheckpointError(
            f"The tokenizer {file}, with the files beside it, cannot be read: {reason_of(error)}. "
            "Copy them again from the original checkpoint."
        ) from error


def load_checkpoint_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that goes with a checkpoint, image tokens added as its config asks.

    Raises:
        CheckpointError: the tokenizer cannot be read.
    """
    # the reference goes by the name: a Mistral called otherwise gets the tokenizer of LLaMA
    is_mistral = checkpoint.family.name == "mistral" and "mistral" in checkpoint.name.lower()
    complete = checkpoint.kind is CheckpointKind.LLAVA
    tokenizer = load_tokenizer(checkpoint.language_dir, merge_table=is_mistral and complete)
    if checkpoint.is_multimodal:
        add_image_tokens(tokenizer, checkpoint.config)
    return tokenizer


def add_image_tokens(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> None:
    """Adds the tokens that a LLaVA config asks for, where the tokenizer lacks them.

    That is `mm_use_im_patch_token` (absent means true) and `mm_use_im_start_end`.
    """
    if config.get("mm_use_im_patch_token", True):
        tokenizer.add_tokens([DEFAULT_IMAGE_PATCH_TOKEN], special_tokens=True)
    if config.get("mm_use_im_start_end", False):
        tokenizer.add_tokens([DEFAULT_IM_START_TOKEN, DEFAULT_IM_END_TOKEN], special_tokens=True)


def _load_fast_tokenizer(folder: Path, config: Mapping[str, Any]) -> FastTokenizer:
    """The tokenizer of `tokenizer.json`, with what GPTNeoXTokenizerFast adds if it is MPT's."""
    # Spaces before punctuation were dropped from decoded text when LLaVA's MPT was evaluated; today
    # that has to be insisted on. The classes of other families did not do so of themselves, and no
    # class does by which a configuration with `backend` was saved.
    is_kept = str(config.get("tokenizer_class")).startswith(_KEEPING_SPACES) or "backend" in config
    clean_up = bool(config.get("clean_up_tokenization_spaces", not is_kept))
    options: dict[str, Any] = {
        "clean_up_tokenization_spaces": clean_up,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": clean_up,
    }
    name = config.get("tokenizer_class")
    is_neox = name in ("GPTNeoXTokenizer", "GPTNeoXTokenizerFast")
    if name is None and (folder / "config.json").is_file():
        is_neox = read_config(folder).get("model_type") in ("mpt", "llava_mpt")
    if is_neox:
        names = {"bos_token", "eos_token", "unk_token"} - config.keys()
        options |= dict.fromkeys(names, _NEOX_TOKEN)
    tokenizer = FastTokenizer.from_pretrained(str(folder), **options)
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    if is_neox and isinstance(splitter, pre_tokenizers.ByteLevel):
        splitter.add_prefix_space = bool(config.get("add_prefix_space", False))
    return tokenizer


def _as_special(token: str | AddedToken) -> AddedToken:
    if isinstance(token, AddedToken):
        return token
    return AddedToken(token, lstrip=False, rstrip=False, normalized=False, special=True)
