"""What is wrong before a run begins, all of it in one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runners.errors import ConfigError


class Problems:
    """Keeps errors until everything has been looked at."""

    def __init__(self) -> None:
        self._found: list[Exception] = []

    @contextmanager
    def kept(self, *kinds: type[Exception]) -> Iterator[None]:
        """While it is entered, an error of these kinds is kept instead of raised."""
        try:
            yield
        except kinds as error:
            self._found.append(error)

    def raise_all(self) -> None:
        """Raises what was kept, if anything was: a single error as it is, several as one."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise ConfigError("\n".join(map(str, self._found))) from self._found[0]
