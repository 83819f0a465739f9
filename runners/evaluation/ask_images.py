"""Images that a person names on the command line: files and http(s) addresses."""

from __future__ import annotations

import io
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from evals.reading.images import ImageFile, decode_image
from runners.errors import ConfigError

TIMEOUT_S = 20.0
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 100_000_000

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """An encoded image that was fetched; `key` is where it came from."""

    key: str
    content: bytes
    refused: str = ""

    @property
    def path(self) -> Path:
        """The address, as far as it has the form of a path."""
        return Path(self.key)

    def exists(self) -> bool:
        """Whether there is an image: it has been fetched."""
        return True

    def open(self) -> Image.Image:
        """Returns the decoded image in RGB.

        Raises:
            OSError: the content is no image, or one with too many pixels.
        """
        with Image.open(io.BytesIO(self.content)) as image:
            width, height = image.size
        if width * height > MAX_PIXELS:
            raise OSError(
                f"Image {self.key} has {width} x {height} pixels, more than {MAX_PIXELS:,}."
            )
        return decode_image(io.BytesIO(self.content), self.key)


def open_sources(names: str | None) -> tuple[ImageFile | ImageBytes, ...]:
    """Returns the images that `image=a.jpg,b.jpg` names; addresses are fetched.

    A name that exists as it is typed is one file, commas or not.

    Raises:
        ConfigError: a file is missing, or an address cannot be fetched.
    """
    if not names:
        return ()
    if Path(names).expanduser().is_file():
        return (ImageFile(names, Path(names).expanduser()),)
    return tuple(_open_source(name.strip()) for name in names.split(",") if name.strip())


def _open_source(name: str) -> ImageFile | ImageBytes:
    if urlsplit(name).scheme in _SCHEMES:
        return ImageBytes(name, fetch(name))
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"`image` must name files or http(s) addresses, but {name!r} is neither.")
    return ImageFile(name, path)


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> bytes:
    """Returns what lies at an http(s) address.

    The attempt ends after `timeout_s` seconds without a byte.

    Raises:
        ConfigError: the address cannot be reached, or more lies there than `max_bytes`.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "llava-evals"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            content: bytes = response.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"`image` {url} cannot be fetched: {error}. Check the address."
        ) from error
    if len(content) > max_bytes:
        raise ConfigError(f"`image` {url} is larger than {max_bytes:,} bytes. Give a smaller one.")
    return content
