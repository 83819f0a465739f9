"""Other projects' folders and files with the names of our packages, where Python looks first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava_evals import PACKAGES
from tests.house import CHECKOUT

FOREIGN = {
    "a package": lambda name: {f"{name}/__init__.py": "raise SystemExit('the wrong one')\n"},
    "a file": lambda name: {f"{name}.py": "raise SystemExit('the wrong one')\n"},
    "LLaVA": lambda name: {f"{name}/__init__.py": "from .model import LlavaLlamaForCausalLM\n"},
}


def run(*words: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(CHECKOUT)]))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def command(tmp_path: Path) -> str:
    """What pip makes of the console script, which stands in no folder of Python's path."""
    script = tmp_path / "bin" / "llava-evals"
    script.parent.mkdir()
    script.write_text("import sys\nfrom llava_evals import main\nsys.exit(main())\n")
    return str(script)


def make(folder: Path, name: str, kind: str) -> None:
    for file, text in FOREIGN[kind](name).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["llava", "evals", "conf"])
def test_module_names_what_is_in_its_way(name: str, kind: str, tmp_path: Path) -> None:
    make(tmp_path, name, kind)
    done = run("-m", "runners.leaderboard", "--help", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{tmp_path / name}")
    assert "start Python in another folder" in done.stderr
    assert "the wrong one" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOREIGN)
def test_command_works_beside_all_of_them(kind: str, command: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for name in PACKAGES:
        make(here, name, kind)
    for path in ("", str(here)):
        done = run(command, "leaderboard", "--help", cwd=here, path=path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "published_dir" in done.stdout
    done = run("-m", "llava_evals", "eval", "no_option=1", cwd=here)
    assert done.returncode == 2
    assert "no_option" in done.stderr


def test_library_says_which_llava_was_imported(tmp_path: Path) -> None:
    (tmp_path / "llava").mkdir()
    (tmp_path / "llava" / "__init__.py").write_text("")
    code = "import llava, runners"
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert f"ImportError: {tmp_path / 'llava'} is in the way" in done.stderr


def test_folder_in_pythonpath_is_named(tmp_path: Path) -> None:
    make(tmp_path / "other", "evals", "a package")
    done = run("-m", "runners.leaderboard", cwd=tmp_path, path=str(tmp_path / "other"))
    assert done.returncode == 2
    assert f"take {tmp_path / 'other'} out of PYTHONPATH" in done.stderr


def test_nothing_is_in_the_way_of_folders_without_a_module(tmp_path: Path) -> None:
    """A folder `conf` with YAML files is no package, where ours is found as one."""
    (tmp_path / "conf").mkdir()
    assert run("-c", "import runners", cwd=tmp_path).returncode == 0


def test_llava_in_the_same_folder_is_told(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in (*PACKAGES, "llava_evals"):
        (site / name).mkdir(parents=True)
    for file in ("llava_evals/__init__.py", "runners/__init__.py"):
        (site / file).write_bytes((CHECKOUT / file).read_bytes())
    for name in ("llava", "evals", "conf"):
        (site / name / "__init__.py").write_text("")
    info = site / "llava-1.2.2.post1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llava\nVersion: 1.2.2.post1\n")
    (info / "RECORD").write_text("llava/__init__.py,,\n")
    done = run("-m", "runners.leaderboard", cwd=tmp_path, path=str(site))
    assert done.returncode == 2
    assert "LLaVA (1.2.2.post1) is installed into the same folder" in done.stderr
