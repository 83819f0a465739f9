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

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from runners.environment import installed_version, num_cores
from runners.errors import BAD_INPUT, COMPLETE, INCOMPLETE
from runners.logs import RunLog
from runners.options.build import read_chosen_specs, read_settings
from runners.options.doctor import DoctorConfig
from runners.options.register import cache_dir
from runners.scoring.data_check import DataCheck, Finding, State, check_data

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_DISTRIBUTION = "llava-evals"
_MARKS = {State.GOOD: "ok", State.NOTE: "note", State.MISSING: "MISSING", State.WRONG: "WRONG"}
_OPTIONAL = {
    "openai": "judged benchmarks need it",
    "openpyxl": "uploads of mmbench need it",
    "matplotlib": "charts need it",
    "ray": "runner=ray needs it",
    "hydra-submitit-launcher": "sweeps over SLURM nodes need it",
    "wandb": "logging to Weights & Biases needs it",
}
_GIB = 2**30


def examine(config: DictConfig) -> int:
    """Looks at what one composed configuration names and returns the exit code."""
    specs = read_chosen_specs(config)
    settings = read_settings(config, DoctorConfig)  # has the folder of demo data only now
    with RunLog():
        folders = {"results": settings.results_dir, "cache": cache_dir()}
        if "root" in settings.data:
            folders["data"] = str(settings.data["root"])
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
    return {State.WRONG: BAD_INPUT, State.MISSING: INCOMPLETE}.get(worst, COMPLETE)


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
        required = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        text = f"{_DISTRIBUTION} is not installed, so that versions cannot be checked"
        return [Finding(state=State.NOTE, text=text)]
    bounds = {each.name: each.specifier for each in required if each.marker is None}
    findings = [_look_at_package(name, bounds[name]) for name in sorted(bounds)]
    versions = [finding.text for finding in findings if finding.state is State.GOOD]
    bad = [finding for finding in findings if finding.state is not State.GOOD]
    for name, purpose in _OPTIONAL.items():
        version = installed_version(name)
        if version is None:
            text = f"{name} is not installed: {purpose} (pip install {name})"
            bad.append(Finding(state=State.NOTE, text=text))
        else:
            versions.append(f"{name} {version}")
    return [Finding(state=State.GOOD, text=", ".join(versions)), *bad]


def _look_at_package(name: str, bounds: SpecifierSet) -> Finding:
    version = installed_version(name)
    if version is None:
        return Finding(state=State.MISSING, text=f"{name} is not installed (pip install {name})")
    if not bounds.contains(version, prereleases=True):
        text = f"{name} {version} is not {bounds} (pip install '{name}{bounds}')"
        return Finding(state=State.WRONG, text=text)
    return Finding(state=State.GOOD, text=f"{name} {version}")


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
    from runners.options.program import main as run_program

    run_program("doctor", examine)


if __name__ == "__main__":
    main()
