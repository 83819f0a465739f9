from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from runners.signals import Interruption
from tests.runners.conftest import CHECKOUT


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_outside_of_patience_interrupts_at_once(signum: int, code: int) -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signum)
        assert interruption.requested
        assert interruption.exit_code == code


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_within_patience_only_asks(signum: int, code: int) -> None:
    with Interruption() as interruption, interruption.patience():
        assert not interruption.requested
        signal.raise_signal(signum)
        assert interruption.requested
        assert interruption.exit_code == code
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interruption.exit_code == code


@pytest.mark.parametrize("is_patient", [False, True])
def test_signals_after_the_one_that_stops_do_not_disturb_the_closing(is_patient: bool) -> None:
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:  # noqa: PT012
        patience = interruption.patience() if is_patient else nullcontext()
        try:
            with patience:
                if is_patient:  # the first one only asks
                    signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
        finally:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(signum)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(signum)
    assert interruption.exit_code == 130


INTERRUPTED_TWICE_AND_MORE = """
import atexit, signal
from runners.options import program

def interrupt():
    signal.raise_signal(signal.SIGINT)

def job(config):
    try:
        interrupt()
    finally:
        interrupt()
        interrupt()

atexit.register(interrupt)
program.main("leaderboard", job)
"""


def test_program_that_is_interrupted_again_and_again_ends_with_130_and_says_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_TWICE_AND_MORE],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "")


def test_signals_after_what_was_being_computed_is_through_do_not_disturb_the_closing() -> None:
    with Interruption() as interruption:
        with interruption.patience():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # would raise
        assert interruption.exit_code == 143


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with Interruption():
        pass
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
