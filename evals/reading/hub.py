"""Benchmarks from their mirrors on the Hugging Face hub, read through `datasets`.

The tables come from parquet files in the benchmark's folder if there are any, otherwise from the
hub or, offline, from the cache of `datasets`. They stay on disk: rows are read without their
images, and an image only when it is opened.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from evals.errors import DataError, check_choice
from evals.reading.images import decode_image


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLocation:
    """Where one split of a mirror lies.

    Attributes:
        repo: The data set's id on the hub.
        config: Its configuration; None for the only one.
        split: The split's name there.
        parquet: Local parquet files that are read instead.
    """

    repo: str
    config: str | None
    split: str
    parquet: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The location, for messages."""
        return "/".join(part for part in (self.repo, self.config, self.split) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubImage:
    """One image of a mirror, read from its table when it is opened; picklable.

    Attributes:
        key: Identity of the image within its task.
        location: The table.
        row: The image's row in it; of a list of images the middle one is taken.
        convert_rgb: Whether the model is to see the image in RGB rather than as it is stored.
    """

    key: str
    location: HubLocation
    row: int
    convert_rgb: bool = True

    @property
    def path(self) -> Path:
        """The place in the table, for messages."""
        return Path(self.location.title) / str(self.row)

    @property
    def refused(self) -> str:
        """Why the image is not opened; empty if it may be.

        A row may name a file instead of holding an image. Tables from elsewhere must not decide
        which files of this machine are read.
        """
        try:
            content, name = self._cell()
        except DataError:
            return ""  # opening it says what is wrong
        if name is None or content is not None:
            return ""
        return (
            f"row {self.row} of {self.location.title} names the file {name[:200]!r} and holds no "
            "image."
        )

    def exists(self) -> bool:
        """Whether the row holds an image; its content is not read for that."""
        try:
            return self._cell()[0] is not None
        except DataError:
            return False

    def open(self) -> Image.Image:
        """Returns the decoded image.

        Raises:
            OSError: the table or the image cannot be read, or the row names a file instead.
        """
        if self.refused:
            raise OSError(f"Image {self.key!r} is not opened: {self.refused}")
        try:
            content, _ = self._cell()
        except DataError as error:
            raise OSError(str(error)) from error
        if content is None:
            raise OSError(f"{self.path} holds no image.")
        file = io.BytesIO(content.as_py())
        return decode_image(file, str(self.path), convert_rgb=self.convert_rgb)

    def _cell(self) -> tuple[Any, str | None]:
        """The image's content, not yet read, and the file that the row names; None for each.

        Raises:
            DataError: the table cannot be had, or has no such images.
        """
        table = _load(self.location)[0]
        try:
            cell = table.column("image")[self.row]
            if cell.is_valid and hasattr(cell.type, "value_type"):  # a list of images
                cell = cell.values[len(cell.values) // 2] if len(cell.values) else None
            if cell is None or not cell.is_valid:
                return None, None
            content, name = cell["bytes"], dict(cell.items()).get("path")
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.location.title}: row {self.row} has no `image` with `bytes`. Fetch the "
                "data set again."
            ) from error
        return (
            content if content.is_valid else None,
            name.as_py() if name is not None and name.is_valid else None,
        )


class HubTable:
    """One split of a mirror.

    Parquet files in `data_dir`, in the layout of the hub, are read instead if there are any.
    """

    def __init__(self, repo: str, config: str | None, split: str, data_dir: Path) -> None:
        self._files = _find_parquet(data_dir, config, split)
        parquet = tuple(map(str, self._files))
        self.location = HubLocation(repo=repo, config=config, split=split, parquet=parquet)

    @cached_property
    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows without their images, each with its place for messages.

        Raises:
            DataError: the table cannot be had, is empty, or has something else for images.
        """
        table = _load(self.location)[0]
        self._require_images(table)
        rows = table.select([name for name in table.column_names if name != "image"]).to_pylist()
        if not rows:
            raise DataError(f"{self.location.title} holds no row. Fetch the data set again.")
        return [(f"{self.location.title}: row {n}", row) for n, row in enumerate(rows)]

    def _require_images(self, table: Any) -> None:
        """Checks that a column called `image` holds some: else all would be passed over."""
        if "image" not in table.column_names:
            return
        kind = table.schema.field("image").type
        kind = getattr(kind, "value_type", kind)  # a list of images
        fields = [kind.field(n).name for n in range(kind.num_fields)]
        if "bytes" not in fields and str(kind) != "null":
            raise DataError(
                f"{self.location.title}: `image` must hold images with their `bytes`, but is "
                f"{kind}. Fetch the data set again."
            )

    def image(self, row: int, key: str, *, convert_rgb: bool = True) -> HubImage:
        """The image of a row under the given key."""
        return HubImage(key=key, location=self.location, row=row, convert_rgb=convert_rgb)

    def data_files(self) -> list[Path]:
        """Files whose content decides the rows: the parquet files, or the record of a download."""
        if self._files:
            return self._files
        record = _load(self.location)[1]
        return [record] if record is not None else []


def find_mirror(
    task: str, source: str, repo: str, config: str | None, split: str | None, data_dir: Path
) -> HubTable | None:
    """The mirror that a benchmark is read from, None if it is read from files.

    `source` is `files` or `hub`; `task` is for messages; the rest is as for a `HubTable`, except
    that `split` is None if the mirror has no such split.

    Raises:
        ValueError: there is no such source.
    """
    check_choice(f"`source` of {task}", source, ("files", "hub"))
    if source == "files" or split is None:
        return None
    return HubTable(repo, config, split, data_dir)


def _find_parquet(data_dir: Path, config: str | None, split: str) -> list[Path]:
    folders = [config] if config else ["data", "default"]
    patterns = [f"{folder}/{split}-*.parquet" for folder in folders]
    for pattern in [*patterns, f"{split}-*.parquet", f"{split}.parquet"]:
        if found := sorted(data_dir.glob(pattern)):
            return found
    return []


@lru_cache(maxsize=8)
def _load(location: HubLocation) -> tuple[Any, Path | None]:
    """The table, memory-mapped, and the file in which `datasets` records where it is from."""
    import datasets

    quiet = datasets.utils.logging.get_verbosity()
    try:
        datasets.utils.logging.set_verbosity_error()
        if location.parquet:
            loaded = datasets.load_dataset(
                "parquet", data_files={location.split: list(location.parquet)}, split=location.split
            )
        else:
            loaded = datasets.load_dataset(location.repo, location.config, split=location.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The data set {location.title} cannot be read: {error} It is fetched from the hub "
            "once; offline it must be in the cache of `datasets`, or as parquet files in the "
            "benchmark's folder. Or set source=files."
        ) from error
    finally:
        datasets.utils.logging.set_verbosity(quiet)
    cached = [Path(entry["filename"]).parent / "dataset_info.json" for entry in loaded.cache_files]
    record = next((path for path in cached if path.is_file()), None)
    return loaded.data.table, record
