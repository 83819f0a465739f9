"""Image files as they occur, and what becomes of a question about each.

What PIL can read is read as the reference reads it, `Image.open(path).convert("RGB")`; everything
else is a failure with a cause.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

ANSWERED, MISSING, UNREADABLE = "answered", "image_missing", "image_unreadable"


@dataclass(frozen=True)
class OddImage:
    """One case.

    Attributes:
        name: As the question names the image.
        make: Puts the file there.
        outcome: `answered` or the cause of the failure.
        large: Whether it takes seconds.
    """

    name: str
    make: Callable[[Path], Any]
    outcome: str
    large: bool = False


def picture(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A picture with some structure in a mode."""
    noise = Image.effect_noise(size, 90)
    colored = Image.merge("RGB", (noise, noise.rotate(180), Image.new("L", size, 40)))
    if mode in ("I;16", "I", "F"):
        return noise.convert("I").point(lambda value: value * 200).convert(mode)
    if mode in ("LA", "PA", "RGBA"):
        colored.putalpha(noise)
    return colored.convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def content(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def saved(mode: str, **options: Any) -> Callable[[Path], Any]:
    return lambda path: picture(mode).save(path, **options)


def sized(width: int, height: int, mode: str = "RGB") -> Callable[[Path], Any]:
    return lambda path: Image.new(mode, (width, height), 1).save(path)


def animated(kind: str) -> Callable[[Path], Any]:
    frames = [picture() for _ in range(3)]
    return content(encoded(kind, frames[0], save_all=True, append_images=frames[1:]))


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture().save(path, exif=exif)


def see_through(path: Path) -> None:
    picture("P").save(path, transparency=bytes(range(256)))


def untouched(_path: Path) -> None:
    """Nothing is put there."""


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


def link_to(target: str) -> Callable[[Path], Any]:
    return lambda path: path.symlink_to(target)


def locked(path: Path) -> None:
    """A file that its owner may not read; only root may."""
    picture().save(path)
    path.chmod(0)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
LONG_NAME = "a" * 300 + ".png"

PLAIN = OddImage("plain.png", saved("RGB"), ANSWERED)
ODD_IMAGES = [
    PLAIN,
    OddImage("truncated.jpg", content(encoded("JPEG")[:700]), UNREADABLE),
    OddImage("truncated.png", content(encoded("PNG")[:-900]), UNREADABLE),
    OddImage("truncated.webp", content(encoded("WEBP")[:-300]), UNREADABLE),
    OddImage("empty.png", content(b""), UNREADABLE),
    OddImage("page.jpg", content(b"<!DOCTYPE html><title>404</title>"), UNREADABLE),
    OddImage("png_inside.jpg", content(encoded("PNG")), ANSWERED),
    OddImage("no_suffix", content(encoded("JPEG")), ANSWERED),
    OddImage("animated.gif", animated("GIF"), ANSWERED),
    OddImage("animated.webp", animated("WEBP"), ANSWERED),
    OddImage("pages.tiff", animated("TIFF"), ANSWERED),
    OddImage("cmyk.jpg", saved("CMYK"), ANSWERED),
    OddImage("16_bit.png", saved("I;16"), ANSWERED),
    OddImage("32_bit.tiff", saved("I"), ANSWERED),
    OddImage("float.tiff", saved("F"), ANSWERED),
    OddImage("palette.png", saved("P"), ANSWERED),
    OddImage("see_through_palette.png", see_through, ANSWERED),
    OddImage("see_through.png", saved("RGBA"), ANSWERED),
    OddImage("grey_see_through.png", saved("LA"), ANSWERED),
    OddImage("grey.jpg", saved("L"), ANSWERED),
    OddImage("1_bit.png", saved("1"), ANSWERED),
    OddImage("bitmap.bmp", saved("RGB"), ANSWERED),
    OddImage("1x1.png", sized(1, 1), ANSWERED),
    OddImage("1x20000.png", sized(1, 20_000), ANSWERED, large=True),
    OddImage("20000x1.png", sized(20_000, 1), ANSWERED, large=True),
    OddImage("warned_about.png", sized(9_500, 9_500, "1"), ANSWERED, large=True),
    OddImage("bomb.png", sized(20_000, 20_000, "1"), UNREADABLE, large=True),
    OddImage("turned.jpg", turned, ANSWERED),
    OddImage("vector.svg", content(SVG), UNREADABLE),
    OddImage("trailing.png", content(encoded("PNG") + b"what is this" * 99), ANSWERED),
    OddImage("folder.png", Path.mkdir, MISSING),
    OddImage("dangling.png", dangling, MISSING),
    OddImage("link.png", link_to("plain.png"), ANSWERED),
    OddImage("loop.png", link_to("loop.png"), MISSING),
    OddImage("pipe.png", pipe, MISSING),
    OddImage("socket.png", listener, MISSING),
    OddImage("device.png", link_to("/dev/zero"), MISSING),
    OddImage("../../etc/passwd", untouched, MISSING),
    OddImage("../outside.png", saved("RGB"), MISSING),
    OddImage("/etc/hostname", untouched, MISSING),
    OddImage("", untouched, MISSING),
    OddImage("nul\0inside.png", untouched, MISSING),
    OddImage(LONG_NAME, untouched, MISSING),
    OddImage("ünïcødé 图像 🐈.png", saved("RGB"), ANSWERED),
    OddImage("two  spaces .png", saved("RGB"), ANSWERED),
    OddImage("100%#1?&=+;'\".png", saved("RGB"), ANSWERED),
    OddImage("new\nline.png", saved("RGB"), ANSWERED),
    OddImage("${oc.env:HOME}.png", saved("RGB"), ANSWERED),
    OddImage("below/../plain.png", untouched, ANSWERED),
    OddImage("locked.png", locked, UNREADABLE),
]
