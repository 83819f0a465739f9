"""Fixed numbers and tokens of the LLaVA format."""

IGNORE_INDEX = -100
"""Label of a position that does not count in the loss."""

IMAGE_TOKEN_INDEX = -200
"""Placeholder of an image in tokenized prompts; not a row of the embedding table."""

DEFAULT_IMAGE_TOKEN = "<image>"
DEFAULT_IMAGE_PATCH_TOKEN = "<im_patch>"
DEFAULT_IM_START_TOKEN = "<im_start>"
DEFAULT_IM_END_TOKEN = "<im_end>"
