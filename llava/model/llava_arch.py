"""What makes a language model a LLaVA: a tower, a projector, and images fused into its inputs.

Legend: B batch, S text tokens of a row, L tokens and image features of a fused row, T tiles of an
image, P patches a tile, D embedding width, H and W the tower's height and width, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from llava.anyres import merge_tiles
from llava.constants import IGNORE_INDEX
from llava.model.fusion import assign_images, fuse_row, pad_rows
from llava.model.multimodal_encoder.builder import build_vision_tower
from llava.model.multimodal_encoder.vision_tower import VisionTower
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.tiling import merge_parts, read_layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _LanguageModel
else:
    _LanguageModel = object  # the family's class, which follows in the order of inheritance


class EncodedImages(tuple[torch.Tensor, ...]):
    """Features of images, (S_i, D) each, as `image_features` has returned them."""

    __slots__ = ()


Images = torch.Tensor | Sequence[torch.Tensor] | EncodedImages


class LlavaMetaModel(_LanguageModel):
    """Mixed into the inner language model: holds the vision tower, projector and newline."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if hasattr(config, "mm_vision_tower"):
            self.vision_tower = build_vision_tower(config, delay_load=True)
            self.mm_projector = build_vision_projector(config)
            # cut between devices, a layer of the tower would add tensors that lie apart
            kept_whole: set[str] = set(getattr(self, "_no_split_modules", None) or ())
            self._no_split_modules = kept_whole | {type(self.vision_tower).__name__}
            if "unpad" in (merge_parts(getattr(config, "mm_patch_merge_type", "flat")) or ()):
                self.image_newline = nn.Parameter(torch.empty(config.hidden_size))

    def get_vision_tower(self) -> VisionTower | None:
        """Returns the vision tower; None for a model without images."""
        return getattr(self, "vision_tower", None)


class LlavaMetaForCausalLM(_LanguageModel):
    """Mixed into the causal language model, before its family's class.

    Takes images beside token ids in `forward` and `generate`. The inner model is
    `get_model()`, a `LlavaMetaModel`.
    """

    # a checkpoint may hold a frozen tower, whose own files count, and buffers computed today
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [
        r"\.vision_tower\.",
        r"rotary_emb\.inv_freq",
    ]

    def get_model(self) -> Any:
        """Returns the inner model."""
        return self.base_model

    def get_vision_tower(self) -> VisionTower | None:
        """Returns the vision tower; None for a model without images."""
        return self.get_model().get_vision_tower()

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Returns projected features (B, P, D) of images or tiles (B, 3, H, W), CLIP-normalized."""
        tower = self._require_tower()
        if not tower.is_loaded:
            tower.load_model(device=self.device)
        features = tower(images)
        weight = next(self.get_model().mm_projector.parameters(), features)
        return self.get_model().mm_projector(features.to(weight))

    def image_features(
        self, images: Images, image_sizes: Sequence[tuple[int, int]] | None
    ) -> list[torch.Tensor]:
        """Returns the features of each image as the language model reads them, (S_i, D) each.

        Args:
            images: (B, 3, H, W); or (B, T, 3, H, W) or a sequence of (T, 3, H, W) or (3, H, W),
                whose tiles are merged by `mm_patch_merge_type`. What is encoded is returned.
            image_sizes: Width and height of each image before preprocessing; needed to merge tiles.

        Raises:
            ValueError: images with tiles have fewer sizes than there are images.
        """
        if isinstance(images, EncodedImages):
            return list(images)
        merged = self._merged_features(images, image_sizes)
        # where a family multiplies what it reads, it was trained with images multiplied too
        scale = getattr(self.get_input_embeddings(), "embed_scale", None)
        return merged if scale is None else [one * scale.to(one) for one in merged]

    def _merged_features(
        self, images: Images, image_sizes: Sequence[tuple[int, int]] | None
    ) -> list[torch.Tensor]:
        """The projected features of each image, those of its tiles put together."""
        if isinstance(images, torch.Tensor) and images.ndim == 4:
            return list(self.encode_images(images))
        tiled = [image if image.ndim == 4 else image[None] for image in images]
        features = self.encode_images(torch.cat(tiled)).split([len(image) for image in tiled])
        newline = getattr(self.get_model(), "image_newline", None)
        sizes = [None] * len(tiled) if image_sizes is None else image_sizes
        if len(sizes) < len(tiled):
            raise ValueError(
                f"`image_sizes` must hold a size for each of the {len(tiled)} images, but holds "
                f"{len(sizes)}. Give width and height of every image before preprocessing."
            )
        return [self._merge(*one, newline) for one in zip(features, sizes, strict=False)]

    def num_image_tokens(self, pixel_values: torch.Tensor, image_size: tuple[int, int]) -> int:
        """Returns how many embeddings an image takes, without computing them.

        Args:
            pixel_values: (3, H, W), or (T, 3, H, W) with tiles.
            image_size: Width and height of the image before preprocessing.
        """
        tower = self._require_tower()
        num_patches = tower.num_patches + (tower.select_feature == "cls_patch")
        if pixel_values.ndim == 3:
            return num_patches
        # the arithmetic of merging, on tensors without data
        features = torch.empty(len(pixel_values), num_patches, 1, device="meta")
        return len(self._merge(features, image_size, features.new_empty(1)))

    def _require_tower(self) -> VisionTower:
        tower = self.get_vision_tower()
        if tower is None:
            raise ValueError("This model has no vision tower. Give it text only.")
        return tower

    def _merge(
        self, tiles: torch.Tensor, image_size: tuple[int, int] | None, newline: torch.Tensor | None
    ) -> torch.Tensor:
        """Tile features (T, P, D) of an image to (S, D), as the config says."""
        tile_size = self._require_tower().image_size
        return merge_tiles(tiles, read_layout(vars(self.config)), image_size, tile_size, newline)

    def prepare_inputs_labels_for_multimodal(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        past_key_values: Any,
        labels: torch.Tensor | None,
        images: Images | None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Any, ...]:
        """Returns the inputs with image features in place of their placeholders.

        Args:
            input_ids: (B, S) int64; -200 marks an image.
            position_ids: (B, S) int64 or None. Only whether it is None matters.
            attention_mask: (B, S), 0 or False where a row is padded; None if no row is.
            past_key_values: Passed through.
            labels: (B, S) int64 or None.
            images: See `image_features`; dealt to the placeholders in order, and one to each row
                that has none.
            image_sizes: See `image_features`.

        Returns:
            `(input_ids, position_ids, attention_mask, past_key_values, inputs_embeds, labels)`:
            None for `input_ids`; (B, L) and (B, L, D) for the others, None where None was given.
            Rows are padded on `config.tokenizer_padding_side` and cut at
            `config.tokenizer_model_max_length`. Everything is returned as given, with None for
            `inputs_embeds`, if there are no images or a single token is decoded.

        Raises:
            ValueError: there are fewer images than placeholders.
        """
        if self.get_vision_tower() is None or images is None or input_ids.shape[1] == 1:
            return input_ids, position_ids, attention_mask, past_key_values, None, labels
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        given_labels = torch.full_like(input_ids, IGNORE_INDEX) if labels is None else labels
        rows = [ids[mask] for ids, mask in zip(input_ids, keep.bool(), strict=True)]
        row_labels = [row[mask] for row, mask in zip(given_labels, keep.bool(), strict=True)]
        dealt = assign_images(rows, self.image_features(images, image_sizes))
        embed_tokens = self.get_input_embeddings()
        embeds, fused_labels = zip(
            *(fuse_row(*row, embed_tokens) for row in zip(rows, row_labels, dealt, strict=True)),
            strict=True,
        )
        inputs_embeds, mask, places, padded_labels = pad_rows(
            embeds,
            fused_labels,
            padding_side=getattr(self.config, "tokenizer_padding_side", "right"),
            max_length=getattr(self.config, "tokenizer_model_max_length", None),
        )
        return (
            None,
            None if position_ids is None else places,
            None if attention_mask is None else mask.to(attention_mask.dtype),
            past_key_values,
            inputs_embeds,
            None if labels is None else padded_labels,
        )

    def forward(  # noqa: PLR0913, PLR0917 - transformers' signature and two more
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        images: Images | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """Returns the language model's output on text and images, a `CausalLMOutputWithPast`.

        Args:
            input_ids: (B, S) int64; -200 marks an image. Or give `inputs_embeds`.
            attention_mask: (B, S), 0 where a row is padded.
            position_ids: (B, S) int64.
            past_key_values: The cache.
            inputs_embeds: (B, L, D), images already fused.
            labels: (B, S) int64; -100 does not count. With them the output has `loss`, the mean
                cross entropy over the next tokens that count.
            images: See `image_features`.
            image_sizes: Width and height of each image.
            logits_to_keep: How many of the last positions get `logits` (B, L, V); 0 for all.
            **kwargs: What the family's class takes.
        """
        if inputs_embeds is None and input_ids is not None:
            given = (input_ids, position_ids, attention_mask, past_key_values, labels)
            input_ids, position_ids, attention_mask, past_key_values, inputs_embeds, labels = (
                self.prepare_inputs_labels_for_multimodal(*given, images, image_sizes)
            )
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        images: Images | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Returns new tokens only, (B, N) int64, as transformers' `generate` gives them.

        Args:
            inputs: (B, S) int64 token ids; -200 marks an image.
            images: See `image_features`; None for text alone.
            image_sizes: Width and height of each image.
            **kwargs: What transformers' `generate` takes; `attention_mask` for padded rows.

        Raises:
            ValueError: `inputs_embeds` is given.
        """
        inputs = kwargs.pop("input_ids", None) if inputs is None else inputs
        if inputs is None or "inputs_embeds" in kwargs:
            raise ValueError(
                "`inputs` must be token ids; `inputs_embeds` is made from them and cannot be given."
            )
        attention_mask = kwargs.pop("attention_mask", None)
        position_ids = kwargs.pop("position_ids", None)
        _, position_ids, attention_mask, _, inputs_embeds, _ = (
            self.prepare_inputs_labels_for_multimodal(
                inputs, position_ids, attention_mask, None, None, images, image_sizes
            )
        )
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(inputs)
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        with warnings.catch_warnings():
            # that a penalty for repeating counts new tokens only: so it does in the reference
            warnings.filterwarnings("ignore", "Passing `repetition_penalty`")
            return super().generate(inputs_embeds=inputs_embeds, **kwargs)
