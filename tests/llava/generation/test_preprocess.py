"""Images are opened where the request says, and damaged ones name themselves."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image

from llava.generation.preprocess import prepare_image
from llava.generation.request import RequestError
from llava.images import process_images


@dataclass(frozen=True)
class FileSource:
    path: Path

    @property
    def key(self):
        return self.path.name

    def open(self):
        with Image.open(self.path) as image:
            return image.copy()


def saved(path, size=(60, 40), color=(200, 10, 20), mode="RGB"):
    Image.new(mode, size, color).save(path)
    return FileSource(path)


def prepared(loaded, *sources):
    parts = loaded.image_processor, loaded.model.config
    return [prepare_image(source, *parts) for source in sources]


def test_images_come_in_order_with_their_sizes(tiny_model, tmp_path):
    wide = saved(tmp_path / "wide.png", (60, 40))
    tall = saved(tmp_path / "tall.png", (30, 90), (0, 0, 255))
    images = prepared(tiny_model, tall, wide)
    expected = process_images(
        [tall.open(), wide.open()], tiny_model.image_processor, tiny_model.model.config
    )
    assert [image.size for image in images] == [(30, 90), (60, 40)]
    assert all(map(torch.equal, (image.pixel_values for image in images), expected))


def test_tiled_images_keep_their_own_numbers_of_tiles(anyres_model, tmp_path):
    wide = saved(tmp_path / "wide.png", (112, 56))
    large = saved(tmp_path / "large.png", (112, 112))
    images = prepared(anyres_model, wide, large)
    assert [image.pixel_values.shape[0] for image in images] == [1 + 2, 1 + 4]


def test_hash_follows_the_pixels_and_not_the_file(tiny_model, tmp_path):
    sources = [
        saved(tmp_path / "a.png"),
        saved(tmp_path / "a.bmp"),
        saved(tmp_path / "other.png", color=(200, 10, 21)),
        saved(tmp_path / "turned.png", size=(40, 60)),
        saved(tmp_path / "alpha.png", mode="RGBA", color=(200, 10, 20, 255)),
    ]
    first, same, *others = [image.sha256 for image in prepared(tiny_model, *sources)]
    assert same == first
    assert len({first, *others}) == 1 + len(others)
    assert len(first) == 64


def test_missing_image_is_named(tiny_model, tmp_path):
    there = saved(tmp_path / "there.png")
    with pytest.raises(RequestError, match=r"gone\.png: no such file") as caught:
        prepared(tiny_model, there, FileSource(tmp_path / "gone.png"))
    assert caught.value.cause == "image_missing"


def encoded(kind):
    buffer = io.BytesIO()
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    noise.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html>",
        encoded("PNG")[:-400],
        encoded("PNG")[:20],
        encoded("JPEG")[: len(encoded("JPEG")) // 2],
        encoded("GIF")[:300],
        encoded("PNG")[:400] + bytes(400) + encoded("PNG")[800:],
    ],
    ids=["empty", "web page", "cut PNG", "head of a PNG", "cut JPEG", "cut GIF", "hole"],
)
def test_damaged_image_is_named(tiny_model, tmp_path, content):
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"damaged\.png: ") as caught:
        prepared(tiny_model, FileSource(path))
    assert caught.value.cause == "image_unreadable"
    assert caught.value.__cause__ is not None


def test_folder_is_no_image(tiny_model, tmp_path):
    with pytest.raises(RequestError) as caught:
        prepared(tiny_model, FileSource(tmp_path))
    assert caught.value.cause == "image_unreadable"


def test_image_too_large_to_decode_is_unreadable(tiny_model, tmp_path, monkeypatch):
    source = saved(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RequestError, match="decompression bomb") as caught:
        prepared(tiny_model, source)
    assert caught.value.cause == "image_unreadable"


class RaisingProcessor:
    """In place of an image processor."""

    image_mean = (0.5, 0.5, 0.5)
    size: ClassVar = {"shortest_edge": 28}

    def __init__(self, error):
        self.error = error

    def preprocess(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't allocate memory"), KeyError()]
)
def test_what_is_not_the_fault_of_the_image_is_not_put_down_to_it(tiny_model, tmp_path, error):
    source, config = saved(tmp_path / "a.png"), tiny_model.model.config
    with pytest.raises(type(error)) as caught:
        prepare_image(source, RaisingProcessor(error), config)
    assert caught.value is error


def test_image_that_cannot_be_prepared_is_named(tiny_model, tmp_path):
    source, config = saved(tmp_path / "a.png"), tiny_model.model.config
    with pytest.raises(RequestError, match=r"^a\.png: too narrow$"):
        prepare_image(source, RaisingProcessor(ValueError("too narrow")), config)
