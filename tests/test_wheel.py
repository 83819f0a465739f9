"""The wheel, installed where nothing of the checkout is found, does what the checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.house import CHECKOUT

PACKAGES = ("conf", "evals", "llava", "llava_evals", "runners")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def pip(*words: str) -> None:
    options = ("--disable-pip-version-check", "--no-deps", "--no-index", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", *words, *options], check=True)


def tracked_files() -> list[str]:
    """What git knows of the packages."""
    names = ["git", "ls-files", "-z", "--", *PACKAGES]
    listed = subprocess.run(names, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git knows, since what else lies in a checkout must not matter."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in (*tracked_files(), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((CHECKOUT / name).read_bytes())
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel in it; its libraries are those of the tests."""
    place = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    [site] = place.glob("lib/python*/site-packages")
    # A plain line: what is installed there by reference, such as this checkout, is not followed.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("--python", str(place / "bin" / "python"), "install", str(wheel))
    return place / "bin"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("here")


def run(line: str, bin_dir: Path, here: Path) -> subprocess.CompletedProcess[str]:
    program, *words = line.split()
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(bin_dir / program), *words],
        cwd=here,
        env={**environment, "XDG_CACHE_HOME": str(here / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_wheel_holds_every_file_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == set(tracked_files())


def test_it_does_the_main_jobs(bin_dir: Path, here: Path) -> None:
    (here / "place.py").write_text("import conf, evals, llava, runners\nprint(conf.__file__)\n")
    assert run("python place.py", bin_dir, here).stdout.startswith(str(bin_dir.parent))
    demo = run("llava-evals eval", bin_dir, here)
    assert demo.returncode == 0, demo.stderr
    assert "vqav2  demo vqa_accuracy" in demo.stdout
    early = run("python -m runners.eval model=llava-demo-early task=gqa data=demo", bin_dir, here)
    assert early.returncode == 0, early.stderr
    gate = run("llava-evals regress baseline=llava-demo candidate=llava-demo-early", bin_dir, here)
    assert gate.returncode == 1, gate.stderr
    assert (here / "results/llava-demo-early/regress-llava-demo/verdict.json").is_file()
    board = run("llava-evals leaderboard", bin_dir, here)
    assert board.returncode == 0, board.stderr
    assert "llava-v1.5-13b" in board.stdout
    assert {path.name for path in (here / "results").glob("leaderboard.*")} == {
        f"leaderboard.{suffix}" for suffix in ("csv", "html", "md", "png", "tex")
    }
    page = run("llava-evals report runs=llava-demo", bin_dir, here)
    assert page.returncode == 0, page.stderr
    told = run("llava-evals doctor task=demo", bin_dir, here)
    assert "llava-evals is not installed" not in told.stdout
    listed = run("llava-evals list runs", bin_dir, here)
    assert listed.stdout.count("finished") == 4
