"""The processes of a distributed training, which share an evaluation. Imports torch."""

from __future__ import annotations

from typing import TypeVar

import torch

T = TypeVar("T")


class Ranks:
    """What torch.distributed says about this process; a process alone is the only rank.

    Attributes:
        index: This process's number, from 0.
        count: How many processes there are.
    """

    def __init__(self) -> None:
        distributed = torch.distributed
        self._is_alone = not (distributed.is_available() and distributed.is_initialized())
        self.index = 0 if self._is_alone else distributed.get_rank()
        self.count = 1 if self._is_alone else distributed.get_world_size()

    def gather(self, value: T) -> list[T]:
        """Returns the values of all ranks, in their order; every rank has to call it."""
        if self._is_alone:
            return [value]
        values: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return [value for value in values if value is not None]
