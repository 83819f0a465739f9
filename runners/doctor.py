"""Says whether this machine and its data are ready: `python -m runners.doctor task=...`."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from runners.build import read_settings, read_task_specs
from runners.config import cache_dir
from runners.data_check import DataCheck, Finding, State, check_data
from runners.environment import num_cores
from runners.logs import RunLog
from runners.offline_config import DoctorConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_DISTRIBUTION = "llava-evals"
_COMPLETE, _INCOMPLETE, _BAD_INPUT = 0, 1, 2
_MARKS = {State.GOOD: "ok", State.NOTE: "note", State.MISSING: "MISSING", State.WRONG: "WRONG"}
_OPTIONAL = {"openai": "judged benchmarks", "openpyxl": "uploads of mmbench"}
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*(?P<bounds>[^;]*)")
_GIB = 2**30


def examine(config: DictConfig) -> int:
    """Looks at what one composed configuration names and returns the exit code."""
    settings = read_settings(config, DoctorConfig)
    with RunLog():
        specs = read_task_specs(config) if config.tasks else {}
        folders = {"results": settings.results_dir, "cache": cache_dir()}
        if "root" in config.data:
            folders["data"] = str(config.data.root)
        machine = DataCheck(
            title="machine", findings=(*_look_at_machine(), *_look_at_disk(folders))
        )
        worst = _show(machine)
        for spec in specs.values():
            check = check_data(
                spec,
                check_counts=settings.check_counts,
                open_images=settings.check_images == "open",
            )
            worst = max(worst, _show(check))
        if not specs:
            print("\nNo benchmark was looked at: name one as task=NAME, or all as task=llava-1.5.")
    return _exit_code(worst)


def _exit_code(worst: State) -> int:
    return {State.WRONG: _BAD_INPUT, State.MISSING: _INCOMPLETE}.get(worst, _COMPLETE)


def _show(check: DataCheck) -> State:
    """Prints what was found and returns the gravest state."""
    print(f"\n{check.title}")
    for finding in check.findings:
        first, *more = finding.text.split("\n")
        print(f"  {_MARKS[finding.state]:8}{first}")
        for line in more:
            print(f"          {line}")
    return max((finding.state for finding in check.findings), default=State.GOOD)


def _look_at_machine() -> list[Finding]:
    return [
        Finding(
            state=State.GOOD,
            text=f"Python {platform.python_version()} on {platform.platform()}",
        ),
        *_look_at_packages(),
        _look_at_devices(),
        _look_at_memory(),
    ]


def _look_at_packages() -> list[Finding]:
    """The packages that are required, with their versions, and those for single benchmarks."""
    try:
        required = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        text = f"{_DISTRIBUTION} is not installed, so that versions cannot be checked"
        return [Finding(state=State.NOTE, text=text)]
    matches = [_REQUIREMENT.match(line) for line in required if "extra ==" not in line]
    bounds = {match["name"]: match["bounds"].strip() for match in matches if match}
    findings = [_look_at_package(name, bounds[name]) for name in sorted(bounds)]
    versions = [finding.text for finding in findings if finding.state is State.GOOD]
    bad = [finding for finding in findings if finding.state is not State.GOOD]
    for name, purpose in _OPTIONAL.items():
        version = installed_version(name)
        if version is None:
            text = f"{name} is not installed: {purpose} need it (pip install {name})"
            bad.append(Finding(state=State.NOTE, text=text))
        else:
            versions.append(f"{name} {version}")
    return [Finding(state=State.GOOD, text=", ".join(versions)), *bad]


def _look_at_package(name: str, bounds: str) -> Finding:
    version = installed_version(name)
    if version is None:
        return Finding(state=State.MISSING, text=f"{name} is not installed (pip install {name})")
    if not _fits(version, bounds):
        text = f"{name} {version} is not {bounds} (pip install '{name}{bounds}')"
        return Finding(state=State.WRONG, text=text)
    return Finding(state=State.GOOD, text=f"{name} {version}")


def installed_version(name: str) -> str | None:
    """Returns the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as `>=2.8,<2.14`."""
    checks = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b}
    for bound in filter(None, bounds.split(",")):
        match = re.fullmatch(r"\s*(>=|<)\s*([0-9.]+)\s*", bound)
        if match and not checks[match[1]](_numbers(version), _numbers(match[2])):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version.

    >>> _numbers("2.13.0+cpu"), _numbers("5.0.0rc1")
    ((2, 13), (5,))
    """
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _look_at_devices() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA that is not there
        return Finding(state=State.MISSING, text=f"torch cannot be imported: {error}")
    cores = f"{num_cores()} cores"
    if not torch.cuda.is_available():
        return Finding(state=State.NOTE, text=f"no CUDA device: models run on the CPU, {cores}")
    devices = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    shown = [
        f"cuda:{n} {device.name}, {device.total_memory / _GIB:.0f} GiB"
        for n, device in enumerate(devices)
    ]
    return Finding(state=State.GOOD, text="; ".join([*shown, cores]))


def _look_at_memory() -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"memory: {total / _GIB:.1f} GiB"
    free = _available_memory()
    if free is not None:
        text += f", {free / _GIB:.1f} GiB free"
    return Finding(state=State.GOOD, text=text)


def _available_memory() -> int | None:
    """Bytes that a new process can have, as Linux tells; None elsewhere."""
    try:
        content = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", content, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _look_at_disk(folders: dict[str, str]) -> Iterable[Finding]:
    for purpose, folder in folders.items():
        place = _existing_parent(Path(folder).resolve())
        free = shutil.disk_usage(place).free
        yield Finding(
            state=State.GOOD, text=f"disk for {purpose} ({folder}): {free / _GIB:.1f} GiB free"
        )


def _existing_parent(path: Path) -> Path:
    candidates: Sequence[Path] = (path, *path.parents)
    return next(candidate for candidate in candidates if candidate.exists())


def main() -> None:
    """The program."""
    from runners.cli import main as run_program

    run_program("doctor", examine)


if __name__ == "__main__":
    main()
