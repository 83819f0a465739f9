from __future__ import annotations

import pytest

from runners.environment import command, resume_command


def test_command_to_go_on_does_not_set_the_answers_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["eval", "task=gqa", "overwrite=true", "model.path=/a b", "run=overwrite"]
    monkeypatch.setattr("sys.argv", words)
    whole = "python -m runners.eval task=gqa overwrite=true 'model.path=/a b' run=overwrite"
    assert command("runners.eval") == whole
    assert resume_command("runners.eval") == whole.replace(" overwrite=true", "")
