"""What small data sets are written with."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from evals.benchmark import Benchmark


@dataclass(frozen=True)
class SmallData:
    """A data set with right answers.

    Attributes:
        build: Makes the task from its folder and further options.
        write: Writes the files.
        right: The right answers in the order of the samples.
        perfect: The primary metric that they get.
        options: What scoring needs beside the folder.
    """

    build: Callable[..., Benchmark]
    write: Callable[[Path], None]
    right: list[str]
    perfect: float
    options: dict[str, Any] = field(default_factory=dict)


def picture(number: int) -> Image.Image:
    """A picture that differs from others."""
    return Image.new("RGB", (6 + number % 3, 5), (number * 37 % 256, 90, 200))


def encode(number: int, kind: str = "PNG") -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    picture(number).save(buffer, kind)
    return buffer.getvalue()


def put_image(path: Path, number: int) -> None:
    """Writes the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(number, "JPEG" if path.suffix == ".jpg" else "PNG"))


def put_json(path: Path, content: Any) -> None:
    """Writes a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def put_lines(path: Path, rows: list[Any]) -> None:
    """Writes a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def put_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def cell(number: int) -> dict[str, Any]:
    """The picture as a table of the hub holds it."""
    return {"bytes": encode(number), "path": f"{number}.png"}
