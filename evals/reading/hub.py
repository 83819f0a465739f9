"""Benchmarks from their mirrors on the Hugging Face hub, read through `datasets`.

The tables come from parquet files in the benchmark's folder if there are any, otherwise from the
hub or, offline, from the cache of `datasets`. They stay on disk: rows are read without their
images, and an image only when it is opened.
"""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

from PIL import Image

from evals.errors import DataError, MissingFileError, check_choice
from evals.reading.files import file_state, find_optional, visible
from evals.reading.images import decode_image
from evals.reading.parquet import BYTES, check_shards, read_columns, require_images
from evals.reading.releases import Release

_SOURCES = ("files", "hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLocation:
    """Where one split of a mirror lies.

    Attributes:
        repo: The data set's id on the hub.
        config: Its configuration; None for the only one.
        split: The split's name there.
        images: The columns that hold images.
        patterns: Where its parquet files lie in the data set, and so in the benchmark's folder;
            those that match the first pattern with any are read. Empty for the hub's usual places.
        parquet: Local parquet files that are read instead.
        state: What changes whenever one of these is written to or replaced; empty without any.
    """

    repo: str
    config: str | None = None
    split: str
    images: tuple[str, ...] = ("image",)
    patterns: tuple[str, ...] = ()
    parquet: tuple[str, ...] = ()
    state: str = ""

    @property
    def title(self) -> str:
        """The location, for messages."""
        return "/".join(part for part in (self.repo, self.config, self.split) if part)

    @property
    def origin(self) -> str:
        """Where its files are to be had, for messages."""
        return f"https://huggingface.co/datasets/{self.repo}"

    @property
    def places(self) -> tuple[str, ...]:
        """The patterns of its parquet files, the usual ones included."""
        if self.patterns:
            return self.patterns
        folders = [self.config] if self.config else ["data", "default"]
        inside = [f"{folder}/{self.split}-*.parquet" for folder in folders]
        return (*inside, f"{self.split}-*.parquet", f"{self.split}.parquet")

    def serves_for(self, origin: str, *others: HubLocation) -> str:
        """Where official files are to be had, and that the table, with any others, does as well."""
        names = " and ".join(table.places[0] for table in (self, *others))
        return f"{origin} ({names} of {self.origin} {'serve' if others else 'serves'} as well)"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubImage:
    """One image of a mirror, read from its table when it is opened; picklable.

    Attributes:
        key: Identity of the image within its task.
        location: The table.
        row: The image's row in it; of a list of images the middle one is taken.
        column: The column that holds it.
        convert_rgb: Whether the model is to see the image in RGB rather than as it is stored.
    """

    key: str
    location: HubLocation
    row: int
    column: str = "image"
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
        except DataError as error:
            return str(error)
        if name is None or content is not None:
            return ""
        return (
            f"row {self.row} of {self.location.title} names the file {name[:200]!r} and holds no "
            "image."
        )

    @property
    def is_empty(self) -> bool:
        """Whether the row has nothing there, neither an image nor the name of a file.

        Raises:
            DataError: the table cannot be had, or has no such images.
        """
        return self._cell() == (None, None)

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
        content, _ = self._cell()
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
            cell = table.column(self.column)[self.row]
            if cell.is_valid and hasattr(cell.type, "value_type"):  # a list of images
                cell = cell.values[len(cell.values) // 2] if len(cell.values) else None
            if cell is None or not cell.is_valid:
                return None, None
            if str(cell.type) in BYTES:
                return cell, None
            content, name = cell["bytes"], dict(cell.items()).get("path")
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.location.title}: row {self.row} has no `{self.column}` with `bytes`. Fetch "
                "the data set again."
            ) from error
        return (
            content if content.is_valid else None,
            name.as_py() if name is not None and name.is_valid else None,
        )


class HubTable:
    """One split of a mirror.

    Parquet files in `data_dir`, in the layout of the hub, are read instead if there are any.

    Args:
        location: Where it lies on the hub.
        data_dir: The benchmark's folder.
        may_fetch: Whether `datasets` may be asked where the folder holds no parquet file.
        is_numbered: Whether the numbers of its rows are ids, so that none may be missing.
    """

    def __init__(
        self,
        location: HubLocation,
        data_dir: Path,
        *,
        may_fetch: bool = True,
        is_numbered: bool = False,
    ) -> None:
        self._folder, self._may_fetch, self._is_numbered = data_dir, may_fetch, is_numbered
        self._files = _find_parquet(data_dir, location.places)
        parquet = tuple(map(str, self._files))
        self.location = replace(location, parquet=parquet, state=_state_of(parquet))

    @cached_property
    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows without their images, each with its place for messages.

        Raises:
            DataError: the table cannot be had, is empty, lacks a shard, or has something else for
                images.
        """
        title, images = self.location.title, self.location.images
        if self._files:
            if self._is_numbered:
                check_shards(self._files)
            rows = [row for path in self._files for row in read_columns(path, images)]
        elif self._may_fetch:
            table = _load(self.location)[0]
            require_images(table.schema, images, title)
            rows = table.select([n for n in table.column_names if n not in images]).to_pylist()
        else:
            raise MissingFileError(
                f"{self._folder / self.location.places[0]} does not exist. It is to be had from "
                f"{self.location.origin}; `datasets` fetches it with data=hub."
            )
        if not rows:
            raise DataError(f"{title} holds no row. Fetch the data set again.")
        return [(f"{title}: row {number}", row) for number, row in enumerate(rows)]

    def image(self, row: int, key: str, *, column: str = "", convert_rgb: bool = True) -> HubImage:
        """The image of a row under the given key, of the first column with images by default."""
        column = column or self.location.images[0]
        return HubImage(
            key=key, location=self.location, row=row, column=column, convert_rgb=convert_rgb
        )

    def images_of(self, row: int, key: str) -> list[HubImage]:
        """The images that a row has, in the order of the columns, as `key/column`.

        Raises:
            DataError: the table cannot be had, or lacks such a column.
        """
        columns = self.location.images
        images = [self.image(row, f"{key}/{column}", column=column) for column in columns]
        return [image for image in images if not image.is_empty]

    def data_files(self) -> list[Path]:
        """Files whose content decides the rows: the parquet files, or the record of a download."""
        if self._files or not self._may_fetch:
            return self._files
        record = _load(self.location)[1]
        return [record] if record is not None else []


def find_mirror(
    task: str, source: str, location: HubLocation | None, data_dir: Path
) -> HubTable | None:
    """The mirror that a benchmark is read from, None if it is read from files.

    Args:
        task: The task's name, for messages.
        source: `files` or `hub`.
        location: The mirror; None if there is none of the split.
        data_dir: The benchmark's folder.

    Raises:
        ValueError: there is no such source.
    """
    check_choice(f"`source` of {task}", source, _SOURCES)
    return None if source == "files" or location is None else HubTable(location, data_dir)


@overload
def find_table(task: str, source: str, location: HubLocation, data_dir: Path) -> HubTable: ...


@overload
def find_table(
    task: str, source: str, location: HubLocation, data_dir: Path, official: Sequence[Path]
) -> HubTable | None: ...


def find_table(
    task: str,
    source: str,
    location: HubLocation,
    data_dir: Path,
    official: Sequence[Path] = (),
) -> HubTable | None:
    """The table that a benchmark is read from, None if it is read from its official files.

    What lies in the folder is taken, the official files before the table. With the source `hub` it
    is the table in any case, from the hub if it does not lie there.

    Args:
        task: The task's name, for messages.
        source: `files` or `hub`.
        location: The table.
        data_dir: The benchmark's folder.
        official: The official files, all of which it takes to be read from them; none where only
            tables are published.

    Raises:
        ValueError: there is no such source.
    """
    check_choice(f"`source` of {task}", source, _SOURCES)
    table = HubTable(location, data_dir, may_fetch=source == "hub", is_numbered=True)
    if source == "hub" or not official:
        return table
    is_official = all(find_optional(path) for path in official)
    return table if table.location.parquet and not is_official else None


def releases_here(releases: Mapping[str, Release], table: HubTable | None) -> Mapping[str, Release]:
    """What is published, with the files that are missed where a benchmark is read from a table."""
    if table is None:
        return releases
    location = table.location
    files = {} if location.parquet else {location.places[0]: location.origin}
    return {split: replace(release, files=files) for split, release in releases.items()}


def _find_parquet(data_dir: Path, patterns: Iterable[str]) -> list[Path]:
    for pattern in patterns:
        if found := visible(data_dir.glob(pattern)):
            return found
    return []


def _state_of(paths: Iterable[str]) -> str:
    """A digest of sizes, times and inodes; empty without any file."""
    told: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            told.append(file_state(Path(path)))
        except OSError:  # reading it says why
            told.append(None)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16] if told else ""


@lru_cache(maxsize=8)
def _load(location: HubLocation) -> tuple[Any, Path | None]:
    """The table, memory-mapped, and the file in which `datasets` records where it is from.

    Raises:
        DataError: the table cannot be had, or its files have changed since it was looked at.
    """
    import datasets

    if _state_of(location.parquet) != location.state:
        raise DataError(
            f"The parquet files of {location.title} have changed since they were looked at. Repeat "
            "the command."
        )
    quiet = datasets.utils.logging.get_verbosity()
    try:
        datasets.utils.logging.set_verbosity_error()
        if location.parquet:
            # `datasets` tells files apart by path and time alone, and takes paths for patterns.
            files = {location.split: [glob.escape(path) for path in location.parquet]}
            loaded = datasets.load_dataset(
                "parquet", location.state, data_files=files, split=location.split
            )
        else:
            loaded = datasets.load_dataset(location.repo, location.config, split=location.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).rstrip(". ")
        if location.parquet:
            raise DataError(
                f"The parquet files of {location.title} cannot be read: {reason}. `datasets` keeps "
                "a copy of them in its cache, which must have room and be writable; "
                "HF_DATASETS_CACHE=DIR names another folder."
            ) from error
        raise DataError(
            f"The data set {location.title} cannot be read: {reason}. It is fetched from the hub "
            "once; offline it must be in the cache of `datasets`, or as parquet files in the "
            "benchmark's folder. Official files in that folder are read with data=playground."
        ) from error
    finally:
        datasets.utils.logging.set_verbosity(quiet)
    cached = [Path(entry["filename"]).parent / "dataset_info.json" for entry in loaded.cache_files]
    record = next((path for path in cached if path.is_file()), None)
    return loaded.data.table, record
