"""Parquet files of data sets, read without the images that they hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from evals.errors import DataError

BYTES = ("binary", "large_binary")
"""The Arrow types of bytes, by name."""

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(-[0-9a-f]+)?\.parquet")
"""Some are named with a hash of their content."""


def read_columns(path: Path, images: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a file without the columns `images`, which are not read.

    Raises:
        DataError: the file cannot be read, or such a column holds something else than images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            require_images(file.schema_arrow, images, str(path))
            names = [name for name in file.schema_arrow.names if name not in images]
            return file.read(columns=names).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error} Fetch the file again.") from error


def require_images(schema: Any, images: Collection[str], title: str) -> None:
    """Checks that the columns for images hold some: else all would be passed over.

    Args:
        schema: The Arrow schema of a table.
        images: The columns, which need not all be there.
        title: The table, for messages.

    Raises:
        DataError: a column holds something else.
    """
    for name in images:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        kind = getattr(kind, "value_type", kind)  # a list of images
        fields = [kind.field(n).name for n in range(kind.num_fields)]
        if "bytes" not in fields and str(kind) not in (*BYTES, "null"):
            raise DataError(
                f"{title}: `{name}` must hold images as bytes, or with their `bytes`, but is "
                f"{kind}. Fetch the data set again."
            )


def check_shards(files: Sequence[Path]) -> None:
    """Checks that no shard of a table is missing, and that all are of one table.

    The number of a row counts over all shards, so that without one the others would be other rows.

    Raises:
        DataError: a shard is missing, or there are those of several tables.
    """
    found: defaultdict[str, dict[int, set[int]]] = defaultdict(dict)
    for path in files:
        if named := _SHARD.fullmatch(path.name):
            shards = found[str(path.parent / named[1])].setdefault(int(named[3]), set())
            if int(named[2]) in shards:
                raise DataError(f"{path} is there under two names. Remove the older one.")
            shards.add(int(named[2]))
    for table, sizes in found.items():
        if len(sizes) > 1:
            raise DataError(
                f"{table}-*.parquet are shards of tables of {' and '.join(map(str, sizes))} files. "
                "Remove those of one of them."
            )
        [(size, shards)] = sizes.items()
        missing = [number for number in range(size) if number not in shards]
        if missing:
            raise DataError(
                f"{table}-*-of-*.parquet are {len(shards)} of {size} files: number {missing[0]} is "
                "missing. Fetch it: rows are numbered over all of them."
            )
