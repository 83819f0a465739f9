"""Images that are opened only when they are needed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from PIL import Image, UnidentifiedImageError

IMAGE_PLACEHOLDER = "<image>"
"""What stands for an image in a text."""


@runtime_checkable
class ImageSource(Protocol):
    """Where one image comes from: named by `key`, opened lazily and picklable.

    Attributes:
        key: Identity of the image within its task; equal keys are the same image.
        path: The file that holds the image.
        refused: Why the image is not opened although a question names it; empty if it may be.
    """

    @property
    def key(self) -> str: ...  # noqa: D102 - documented above

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def refused(self) -> str: ...  # noqa: D102

    def exists(self) -> bool:
        """Whether the image is there; it is not decoded for that."""

    def open(self) -> Image.Image:
        """Returns the decoded image.

        Raises:
            OSError: the image is missing, refused, unreadable or none.
        """


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file, identified by `key` and opened lazily; picklable.

    Attributes:
        key: Identity of the image within its task, its path relative to the image folder.
        path: Where the file lies.
        convert_rgb: Whether the model is to see the image in RGB rather than as it is stored.
        refused: Why the file is not opened although a question names it; empty if it may be.
    """

    key: str
    path: Path
    convert_rgb: bool = True
    refused: str = ""

    def exists(self) -> bool:
        """Whether a regular file lies at the path; the file is not opened."""
        return not self.refused and stat.S_ISREG(self._mode())

    def _mode(self) -> int:
        """What lies at the path; 0 for nothing, or for what is out of reach."""
        try:
            return self.path.stat().st_mode
        except (OSError, ValueError):  # ValueError: no possible name of a file
            return 0

    def open(self) -> Image.Image:
        """Returns the decoded image, in RGB or, without `convert_rgb`, in the mode of the file.

        Raises:
            OSError: the file is missing, refused, unreadable or no image.
        """
        if self.refused:
            raise OSError(f"Image {self.key!r} is not opened: {self.refused}")
        # Opening a pipe would wait, reading a device never end.
        if (mode := self._mode()) and not stat.S_ISREG(mode):
            raise OSError(f"Image {self.key!r} is no regular file.")
        try:
            file = self.path.open("rb")
        except ValueError as error:
            raise OSError(f"Image {self.key!r} has no possible name of a file: {error}") from error
        with file:
            return decode_image(file, str(self.path), convert_rgb=self.convert_rgb)


def decode_image(file: BinaryIO, name: str, *, convert_rgb: bool = True) -> Image.Image:
    """The image in a file, in RGB or, without `convert_rgb`, in the mode of the file.

    `name` is what it is called in messages.

    Raises:
        OSError: the content is unreadable or no image.
    """
    try:
        image: Image.Image = Image.open(file)
        image.load()
        return _to_rgb(image) if convert_rgb else image
    except MemoryError:  # not the image's fault
        raise
    except UnidentifiedImageError as error:  # PIL's message names an object in memory
        raise OSError(f"Image {name} is in no format that can be read.") from error
    except Exception as error:  # damaged files make PIL's readers raise whatever there is
        raise OSError(f"Image {name} cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    # Without the entry PIL converts the same pixels and does not warn about it; what remains
    # in `info` would make an image processor composite the picture onto a background.
    image.info.pop("transparency", None)
    image = image.convert("RGB")
    image.info.clear()
    return image


def image_in(folder: Path, name: str, *, convert_rgb: bool = True) -> ImageFile:
    """The image that a data file calls `name`, relative to `folder`.

    A name that leads out of the folder gives an image that does not exist: data files from
    elsewhere must not decide which files of this machine are read.
    """
    refused = ""
    climbs = ".." in name and Path(os.path.normpath(name)).parts[:1] == ("..",)
    if climbs or Path(name).is_absolute():
        refused = f"its name leads out of the image folder {folder}."
    return ImageFile(key=name, path=folder / name, convert_rgb=convert_rgb, refused=refused)
