"""Programs started without root's privileges: permissions hold for them as for any user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.conftest import Finished, program_environment


def run_unprivileged(*words: str, workspace: Path, timeout_s: float = 240) -> Finished:
    """Runs `python WORDS` in a folder, to its end; skips where root cannot be made obey."""
    finished = subprocess.run(
        [*_without_privileges(), sys.executable, *words],
        cwd=workspace,
        env=program_environment(workspace / "cache"),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr, workspace)


def _without_privileges() -> list[str]:
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv: permissions do not hold for root")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
