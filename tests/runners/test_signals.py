from __future__ import annotations

import signal

import pytest

from runners.signals import Interruption


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


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with Interruption():
        pass
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
