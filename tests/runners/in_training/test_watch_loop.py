from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.checkpoints import make_checkpoint
from tests.runners.conftest import Shell

NAMES = {"ünï", "${q}", "it's", "'x'", "null", "2026_11_27"}


@pytest.mark.slow
def test_checkpoint_is_evaluated_whatever_its_folder_is_called(
    shell: Shell, tmp_path: Path, tiny_tower: Path, tiny_checkpoint: Path
) -> None:
    for name in NAMES:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        for file in ("tokenizer.model", "tokenizer_config.json"):
            shutil.copy(tiny_checkpoint / file, folder)
        make_checkpoint(folder, tiny_tower)
    question = {"question_id": 1, "text": "What?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question))
    finished = shell(
        "python -m runners.watch dir=runs once=true quiet_s=0 conversation=vicuna_v1 dry_run=true "
        "task=custom tasks.custom.questions=questions.jsonl",
        tmp_path,
    )
    assert finished.code == 0, finished.stderr
    assert set(finished.stdout.splitlines()) >= {f"{name}-vicuna_v1" for name in NAMES}
