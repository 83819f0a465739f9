"""Passwords and keys are left out of texts, and nothing else is."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from runners.environment import command
from runners.errors import ConfigError
from runners.logs import RunLog, mask_secrets, public_address, secrets_in
from runners.options import program
from runners.options.complaints import report
from runners.options.score import JudgeOptions
from runners.scoring.endpoint import Budget, OpenAIJudge


@pytest.mark.parametrize(
    "text",
    [
        "http://me:hunter2@host/v1",
        "cannot reach https://hunter2@host: refused",
        "ftp://a:hunter2@b@host",
        "https://host/v1?api-version=1&api_key=hunter2&x=1",
        "https://host/v1?key=hunter2",
        "http://me:hunter2/x@host:8000/v1",  # which should have been quoted
        "`judge.base_url` is 'http://me:hunter2#x@host/v1'",
        "judge.base_url=me:hunter2@host/v1",
        "https://host/a.jpg?X-Amz-Signature=hunter2",
        "https://host/v1?subscription-key=hunter2",
        "https://host/v1?code=hunter2&x=1",
        "https://host/v1?auth=hunter2",
        "data.hub.token=hunter2",
        "+extra.password=hunter2 limit=2",
        "Illegal header value b'Bearer hunter2'",
        "Authorization: Basic hunter2",
        "hf_hunter2abcdefghijkl".replace("hunter2", "hunter2hunter2"),
    ],
)
def test_secret_is_masked(text: str) -> None:
    assert "hunter2" not in mask_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "generation.max_new_tokens=20",
        "judge.api_key_env=MY_KEY",
        "http://host:8000/v1?api-version=2024-02-01",
        "image=me@host.jpg",
        "image=http://host:8000/cat@2x.png",
        "git@github.com:x/y",
        "/data/a.jsonl:3: text@x",
        "tasks.custom.key=question",
        "skip=sk-1",
    ],
)
def test_anything_else_stays(text: str) -> None:
    assert mask_secrets(text) == text


def test_known_secret_is_masked_wherever_it_stands() -> None:
    assert mask_secrets("key swordfish is wrong", ["swordfish", ""]) == "key *** is wrong"
    assert secrets_in("http://me:sword%20fish@host") == ["sword%20fish", "sword fish"]
    assert secrets_in("http://host") == secrets_in("http://[") == []


def test_address_keeps_what_names_the_endpoint() -> None:
    assert public_address("http://me:pw@host:1/v1/") == "http://host:1/v1/"
    assert public_address("https://api.openai.com/v1") == "https://api.openai.com/v1"


def test_command_and_logs_hold_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "model.path=https://me:hunter2@host/m"])
    assert "hunter2" not in command("runners.eval")
    with RunLog() as log:
        log.attach(tmp_path)
        logging.getLogger("runners.x").error("from %s", "https://me:hunter2@host/m")
    assert "hunter2" not in (tmp_path / "run.log").read_text() + capsys.readouterr().err


def test_failed_job_of_a_sweep_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "judge.base_url=http://me:hunter2@host/v1,http://me:hunter2@other/v1"]
    monkeypatch.setattr(sys, "argv", ["x", *words])
    assert program.run("score", lambda _: 1, words) == 1
    said = capsys.readouterr().err
    assert said.count("ended with exit code 1") == 2
    assert "hunter2" not in said


def test_traceback_holds_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    report(ValueError("no answer of http://me:hunter2@host"))
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("url", ["http://me:hunter2/x@host/v1", "me:hunter2@host/v1"])
def test_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="must be an http") as raised:
        OpenAIJudge("m", url, "key", JudgeOptions(), Budget(None, None))
    assert "hunter2" not in str(raised.value)
