"""The reference's import path for functions on images, prompts and names; nothing of its own."""

from llava.anyres import (
    divide_to_patches,
    get_anyres_image_grid_shape,
    resize_and_pad_image,
    select_best_resolution,
)
from llava.images import expand2square, process_anyres_image, process_images
from llava.names import get_model_name_from_path
from llava.tokens import tokenizer_image_token

__all__ = [
    "divide_to_patches",
    "expand2square",
    "get_anyres_image_grid_shape",
    "get_model_name_from_path",
    "process_anyres_image",
    "process_images",
    "resize_and_pad_image",
    "select_best_resolution",
    "tokenizer_image_token",
]
