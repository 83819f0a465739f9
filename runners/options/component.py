"""A part of a program that is chosen by name, as the engine is by `engine=packed`.

`_target_` in its configuration names the class that is built. Each choice has exactly one: what a
command line or a stored run names beside it is refused before anything is imported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from omegaconf import MISSING


@dataclass(kw_only=True, slots=True)
class Component:
    """The options of one choice; a subclass has their types, defaults and ranges.

    Attributes:
        choice: What chooses it on the command line.
        _target_: The class that is built.
    """

    choice: ClassVar[str] = ""
    _target_: str = MISSING

    def __post_init__(self) -> None:
        [known] = (field.default for field in fields(self) if field.name == "_target_")
        if self._target_ != known:
            group, _, name = self.choice.partition("=")
            raise ValueError(
                f"`{group}` has no class {self._target_!r}; that of {name or 'each choice'} is "
                f"{known}. Choose by name, with {group}=NAME; see --help for the names."
            )

    def to_json(self) -> dict[str, str | int | float | None]:
        """Returns `_target_` and the options, as a manifest keeps them."""
        options = asdict(self)
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in options.items()
        }
