"""The page of checkpoints says what the code knows, and refuses what it says it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava.errors import CheckpointError
from llava.model.checkpoint import inspect_checkpoint
from llava.model.families import FOREIGN
from tests.docs.checkpoints_page import PAGE, render

SIGNS = [
    *({"model_type": name} for names, _, _ in FOREIGN for name in names),
    {"model_type": "cambrian_llama"},
    {"model_type": "bunny-phi3"},
    {"model_type": "moe_llava_stablelm"},
    {"model_type": "llava_llama", "llm_cfg": {"a": 1}},
    {"model_type": "llava_llama", "mm_vision_tower_aux_list": ["siglip"]},
    {"model_type": "llava_llama", "moe_enable": True},
    {"model_type": "llava_llama", "mm_video_tower": "LanguageBind_Video"},
]


def test_page_is_what_the_tables_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == render()


@pytest.mark.parametrize("config", SIGNS, ids=lambda config: "-".join(map(str, config.values())))
def test_other_architectures_are_named(config: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json describes .*, which is another"):
        inspect_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "model_type", ["llava_llama", "llava_qwen", "llava_onevision", "share4v", "internvl_custom"]
)
def test_nothing_else_is_taken_for_one(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(str(tmp_path))
    assert "another architecture" not in str(caught.value)
