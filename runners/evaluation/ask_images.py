"""Images that a person names on the command line: files and http(s) addresses."""

from __future__ import annotations

import errno
import http.client
import io
import multiprocessing
import urllib.request
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from PIL import Image

from evals.reading.images import ImageFile, decode_image
from llava.errors import reason_of
from llava.model.locate import expand_home
from runners.errors import ConfigError

TIMEOUT_S = 30.0
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 100_000_000

_NOT_FETCHED = (OSError, ValueError, OverflowError, http.client.HTTPException)
"""What the library says of wrong addresses, networks that fail and answers that are none."""
_SCHEMES = ("http://", "https://")
_MAY_STAND = "%/:?#[]@!$&'()*+,;=~"
"""Characters of an address that stay: those with a meaning, and of what is encoded already."""


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
        try:
            with Image.open(io.BytesIO(self.content)) as image:
                width, height = image.size
        except (Image.DecompressionBombError, ValueError) as error:
            raise OSError(f"Image {self.key} cannot be decoded: {error}") from error
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
    if path := _find_file(names):
        return (ImageFile(names, path),)
    return tuple(_open_source(name.strip()) for name in names.split(",") if name.strip())


def _open_source(name: str) -> ImageFile | ImageBytes:
    if name.lower().startswith(_SCHEMES):
        return ImageBytes(name, fetch(name))
    if path := _find_file(name):
        return ImageFile(name, path)
    raise ConfigError(f"`image` must name files or http(s) addresses, but {name!r} is neither.")


def _find_file(name: str) -> Path | None:
    path = expand_home(name)
    try:
        return path if path.is_file() else None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # as an address is, if it is signed
            return None
        raise


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> bytes:
    """Returns what lies at an http(s) address, in which spaces and the like need not be encoded.

    The attempt ends after `timeout_s` seconds, whatever has come by then.

    Raises:
        ConfigError: it is no address, it cannot be reached, what lies there does not come in time,
            or it is larger than `max_bytes`.
    """
    # A timeout of the library's is one for each byte; a pool's threads do not outlive the program.
    with ThreadPool(1) as pool:
        fetching = pool.apply_async(_fetch, (url, max_bytes, timeout_s))
        try:
            content = fetching.get(timeout_s)
        except multiprocessing.TimeoutError as error:
            raise ConfigError(
                f"`image` {url} was not there after {timeout_s:g} s. Check the address, or "
                "download the image and give the file."
            ) from error
        except _NOT_FETCHED as error:
            raise ConfigError(
                f"`image` {url} cannot be fetched: {reason_of(error)}. Check the address."
            ) from error
    if len(content) > max_bytes:
        raise ConfigError(f"`image` {url} is larger than {max_bytes:,} bytes. Give a smaller one.")
    return content


def _fetch(url: str, max_bytes: int, timeout_s: float) -> bytes:
    """What lies there, at most one byte more than allowed."""
    request = urllib.request.Request(_encode(url), headers={"User-Agent": "llava-evals"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            content: bytes = response.read(max_bytes + 1)
            if response.length and len(content) <= max_bytes:  # it does not say so by itself
                raise http.client.IncompleteRead(content, response.length)
    except HTTPError as error:
        error.close()  # it holds the connection
        raise
    return content


def _encode(url: str) -> str:
    """The address as it is sent, with what may not stand in it encoded.

    Raises:
        ValueError: it has no possible host.
    """
    parts = urlsplit(url)
    host = parts.netloc
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not host or set(host) & set(" \t"):
        raise ValueError(f"{parts.netloc!r} is no host")
    path, query = quote(parts.path, safe=_MAY_STAND), quote(parts.query, safe=_MAY_STAND)
    return parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
