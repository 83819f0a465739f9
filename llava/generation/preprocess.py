"""Images of a request to what the vision tower takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from llava.content_hash import hash_image
from llava.generation.budget import is_out_of_memory
from llava.generation.request import FailureCause, ImageSource, Request, RequestError
from llava.images import process_images
from llava.tiling import read_layout

_PADDED = SimpleNamespace(image_aspect_ratio="pad")


@dataclass(frozen=True, slots=True)
class BlankImage:
    """A gray image of the size of another one."""

    of: ImageSource

    @property
    def key(self) -> str:
        """Another key than the image's own."""
        return f"blank {self.of.key}"

    def open(self) -> Image.Image:
        """Returns the gray image; raises what the other one raises."""
        return Image.new("RGB", self.of.open().size, (127, 127, 127))


@dataclass(frozen=True, slots=True)
class WholeImage:
    """One of several images of a question: padded, where one alone would be tiled.

    Attributes:
        of: The image.
        is_closed: Whether the newline follows its features.
    """

    of: ImageSource
    is_closed: bool

    @property
    def key(self) -> str:
        """Another key than the tiled image's."""
        return f"whole {self.of.key}"

    def open(self) -> Image.Image:
        """Returns the image; raises what it raises."""
        return self.of.open()


def lay_out(request: Request, config: Any) -> Request:
    """Returns a request with its images as the evaluation of its checkpoint has them seen.

    It may have been laid out before, by the same configuration of the model.
    """
    images, layout = request.images, read_layout(vars(config))
    each = layout.of_each(len(images))
    if each is layout or isinstance(images[0], WholeImage):
        return request
    return replace(request, images=tuple(WholeImage(i, each.closes_whole) for i in images))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """One image of a request.

    Attributes:
        pixel_values: (3, H, W) or, tiled or closed, (1 + T, 3, H, W) float32, CLIP-normalized.
        size: Width and height of the image as it was opened.
        sha256: Hash of its mode, size and pixels as it was opened, as hex.
    """

    pixel_values: torch.Tensor
    size: tuple[int, int]
    sha256: str


def prepare_image(
    source: ImageSource, image_processor: Any, config: Any, *, pin: bool = False
) -> PreparedImage:
    """Returns an image opened and preprocessed.

    Args:
        source: Where it comes from.
        image_processor: Of the vision tower.
        config: Of the model; says how an image is laid out.
        pin: Whether pixels lie in memory from which they go to a CUDA device beside its work.

    Raises:
        RequestError: the image is missing or unreadable.
        MemoryError: there is not enough memory to decode it.
    """
    image, whole = _open(source), source if isinstance(source, WholeImage) else None
    try:
        [values] = process_images([image], image_processor, _PADDED if whole else config)
    except (OSError, ValueError) as error:
        raise RequestError(FailureCause.IMAGE_UNREADABLE, f"{source.key}: {error}") from error
    if whole is not None and whole.is_closed:
        values = values[None]  # as tiled into nothing: the newline follows the view of the whole
    if pin:
        values = values.pin_memory()
    return PreparedImage(pixel_values=values, size=image.size, sha256=hash_image(image))


def _open(source: ImageSource) -> Image.Image:
    try:
        return source.open()
    except FileNotFoundError as error:
        raise RequestError(FailureCause.IMAGE_MISSING, f"{source.key}: no such file") from error
    except Exception as error:  # damaged files make PIL's readers raise whatever there is
        if is_out_of_memory(error):
            raise
        raise RequestError(FailureCause.IMAGE_UNREADABLE, f"{source.key}: {error}") from error
