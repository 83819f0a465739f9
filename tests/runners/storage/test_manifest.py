from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runners.errors import ConfigError
from runners.storage.identity import UNKNOWN, check_identity, differences
from runners.storage.manifest import (
    MANIFEST_FILE,
    Manifest,
    other_code,
    read_manifest,
    write_manifest,
)

IDENTITY = {"seed": 0, "dtype": "float32", "generation": {"max_new_tokens": 16, "top_p": None}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "`seed` is 0 there and 1 here"),
        ({"dtype": "float16"}, '`dtype` is "float32" there and "float16" here'),
        (
            {"generation": {"max_new_tokens": 8, "top_p": None}},
            "`generation.max_new_tokens` is 16 there and 8 here",
        ),
        ({"new": 1}, "`new` is null there and 1 here"),
        (
            {"adapter": {"weights": 9 * "abcdef"}},
            'is none there and {weights: "abcdefabcdefabc..."} h',
        ),
        ({"stops": [50 * "x", "b"]}, 'is null there and ["xxxxxxxxxxxxxxx...", "b"] here'),
        (
            {"quantization": {"name": "int8", "double_quant": True, "compute_dtype": "float32"}},
            "`quantization` is none there and int8 here",
        ),
    ],
)
def test_other_identity_is_refused_by_name_with_ways_out(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_identity(tmp_path, IDENTITY, IDENTITY | change)
    message = str(error.value)
    assert named in message
    assert "run=NAME" in message
    assert "overwrite=true" in message


def test_same_identity_is_accepted_whatever_the_order(tmp_path: Path) -> None:
    check_identity(tmp_path, IDENTITY, dict(reversed(IDENTITY.items())))


def test_what_is_not_known_yet_is_not_compared() -> None:
    assert differences(IDENTITY, IDENTITY | {"dtype": UNKNOWN}) == {}
    later = {"tower": {"config.json": "a", "processor_config.json": "b"}}
    assert differences({"tower": {"config.json": "a"}}, later) == {}
    assert differences(later, {"tower": {"config.json": "a"}}) == {
        "tower.processor_config.json": ("b", None)
    }


@pytest.mark.parametrize(
    ("session", "here", "told"),
    [
        ({"source": "a"}, {"source": "a"}, None),
        ({}, {"source": "a"}, None),
        ({"source": "a"}, {"source": "b"}, "changes that are in no commit"),
        ({"git": {"commit": "1"}}, {"git": {"commit": "2"}}, "commit 1 there, commit 2 here"),
        ({"source": "a", "git": {"commit": "1"}}, {"source": "a", "git": {"commit": "2"}}, None),
        ({"git": {"commit": "1"}}, {"git": None, "source": "a"}, None),
        ({"git": 1}, {"git": {"commit": None}}, None),
    ],
)
def test_code_is_told_apart_by_what_is_known(
    session: dict[str, object], here: dict[str, object], told: str | None
) -> None:
    assert other_code(session, here) == told


def test_manifest_is_read_as_written(tmp_path: Path) -> None:
    manifest = Manifest(identity=IDENTITY, environment={"host": "h"}, history=[{"a": 1}])
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    content = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert content == {"identity": IDENTITY, "environment": {"host": "h"}, "history": [{"a": 1}]}


def test_manifest_without_an_environment_is_read() -> None:
    assert Manifest.from_json({"identity": {}, "history": []}).shard is None


def test_new_folder_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "new") is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"identity": 1, "history": []}'])
def test_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(ConfigError, match="no manifest"):
        read_manifest(tmp_path)


def test_answers_without_a_manifest_are_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
