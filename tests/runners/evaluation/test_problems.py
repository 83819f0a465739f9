from __future__ import annotations

import pytest

from evals.errors import DataError
from llava.errors import CheckpointError
from runners.errors import ConfigError
from runners.evaluation.course import Problems


def test_nothing_wrong_raises_nothing() -> None:
    problems = Problems()
    with problems.kept(DataError):
        pass
    problems.raise_all()


def test_one_error_stays_what_it_is() -> None:
    problems = Problems()
    with problems.kept(DataError):
        raise DataError("no questions")
    with pytest.raises(DataError, match="no questions"):
        problems.raise_all()


def test_several_errors_come_in_one_message() -> None:
    problems = Problems()
    with problems.kept(CheckpointError):
        raise CheckpointError("no weights")
    with problems.kept(DataError):
        raise DataError("no questions")
    with pytest.raises(ConfigError, match="no weights\nno questions"):
        problems.raise_all()


def test_other_errors_are_not_kept() -> None:
    with pytest.raises(ValueError, match="a defect"), Problems().kept(DataError):
        raise ValueError("a defect")
