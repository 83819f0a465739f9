"""Broken checkpoints are refused with what is wrong, where, and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llava.errors import CheckpointError
from llava.model.builder import load_pretrained_model
from tests.broken_checkpoints import WAYS, Broken, Workshop

NOBODY = 65534


@pytest.mark.parametrize("break_one", WAYS, ids=lambda way: way.__name__)
def test_broken_checkpoint_is_refused(
    break_one: Callable[[Workshop], Broken], tmp_path: Path
) -> None:
    broken = break_one(Workshop(tmp_path))
    base = None if broken.base is None else str(broken.base)
    with pytest.raises(CheckpointError) as refusal:
        load_pretrained_model(str(broken.path), base, broken.path.name, device="cpu")
    message = str(refusal.value)
    assert re.search(broken.message, message, re.DOTALL), message
    assert "\n" not in message.strip()
    assert message.rstrip().endswith((".", "`"))
    assert not re.search(r"(?<!\.)\.\.(?!\.)", message), message


def test_code_in_a_pickle_is_not_executed(tmp_path: Path) -> None:
    from tests.broken_checkpoints import pickle_with_code

    broken = pickle_with_code(Workshop(tmp_path))
    with pytest.raises(CheckpointError):
        load_pretrained_model(str(broken.path), None, broken.path.name, device="cpu")
    assert not (broken.path / "executed").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as somebody without permission")
def test_unreadable_weights_are_named(tmp_path: Path) -> None:
    folder = Workshop(tmp_path).llava()
    (folder / "model.safetensors").chmod(0)
    for parent in (tmp_path, *list(tmp_path.parents)[:-1]):
        parent.chmod(parent.stat().st_mode | 0o055)
    program = (
        "import os, sys; import llava.model.weights as weights; from pathlib import Path; "
        f"os.setuid({NOBODY}); weights.read_tensors([Path(sys.argv[1])])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "model.safetensors")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "model.safetensors cannot be read (" in done.stderr
    assert "check its permissions" in done.stderr
