"""Says whether this machine and its data are ready: `python -m runners.doctor task=...`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path

import psutil
from omegaconf import DictConfig
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from runners.environment import installed_version, num_cores
from runners.errors import BAD_INPUT, COMPLETE, INCOMPLETE
from runners.logs import RunLog, doing
from runners.options import program
from runners.options.build import read_chosen_specs, read_settings
from runners.options.doctor import DoctorConfig
from runners.options.register import cache_dir
from runners.scoring.data_check import Finding, State, check_data

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
        worst = _show("machine", chain(_look_at_machine(), _look_at_disk(folders)))
        for spec in specs.values():
            task = spec.build()
            findings = check_data(
                spec,
                check_counts=settings.check_counts,
                open_images=settings.check_images == "open",
            )
            worst = max(worst, _show(f"{task.name} {task.split}", findings))
        if not specs:
            print("\nNo benchmark was looked at: name one as task=NAME, or all as task=llava-1.5.")
    return {State.WRONG: BAD_INPUT, State.MISSING: INCOMPLETE}.get(worst, COMPLETE)


def _show(title: str, findings: Iterable[Finding]) -> State:
    """Prints what is found, as it is found, and returns the gravest state."""
    print(f"\n{title}")
    worst = State.GOOD
    remaining = iter(findings)
    while True:
        with doing(f"looking at {title}"):
            finding = next(remaining, None)
        if finding is None:
            return worst
        state, text = finding
        first, *more = text.split("\n")
        print(f"  {_MARKS[state]:8}{first}")
        for line in more:
            print(f"          {line}")
        worst = max(worst, state)


def _look_at_machine() -> Iterator[Finding]:
    yield Finding(State.GOOD, f"Python {platform.python_version()} on {platform.platform()}")
    yield from _look_at_packages()
    yield _look_at_devices()
    memory = psutil.virtual_memory()
    free = f"{memory.available / _GIB:.1f} GiB free"
    yield Finding(State.GOOD, f"memory: {memory.total / _GIB:.1f} GiB, {free}")


def _look_at_packages() -> Iterator[Finding]:
    """The packages that are required, with their versions, and those for single benchmarks."""
    try:
        required = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        text = f"{_DISTRIBUTION} is not installed, so that versions cannot be checked"
        yield Finding(State.NOTE, text)
        return
    # Those with a marker belong to an extra; `_OPTIONAL` says what each of them is for.
    bounds = {each.name: each.specifier for each in required if each.marker is None}
    findings = [_look_at_package(name, bounds[name]) for name in sorted(bounds)]
    for name, purpose in _OPTIONAL.items():
        version = installed_version(name)
        if version is None:
            text = f"{name} is not installed: {purpose} (pip install {name})"
            findings.append(Finding(State.NOTE, text))
        else:
            findings.append(Finding(State.GOOD, f"{name} {version}"))
    good = [finding.text for finding in findings if finding.state is State.GOOD]
    yield Finding(State.GOOD, ", ".join(good))
    yield from (finding for finding in findings if finding.state is not State.GOOD)


def _look_at_package(name: str, bounds: SpecifierSet) -> Finding:
    version = installed_version(name)
    if version is None:
        return Finding(State.MISSING, f"{name} is not installed (pip install {name})")
    if not bounds.contains(version, prereleases=True):
        text = f"{name} {version} is not {bounds} (pip install '{name}{bounds}')"
        return Finding(State.WRONG, text)
    return Finding(State.GOOD, f"{name} {version}")


def _look_at_devices() -> Finding:
    try:
        import torch  # only here: without it the rest is told all the same
    except (ImportError, OSError) as error:  # OSError: a library of CUDA that is not there
        return Finding(State.MISSING, f"torch cannot be imported: {error}")
    cores = f"{num_cores()} cores"
    if not torch.cuda.is_available():
        return Finding(State.NOTE, f"no CUDA device: models run on the CPU, {cores}")
    devices = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    shown = [
        f"cuda:{n} {device.name}, {device.total_memory / _GIB:.0f} GiB"
        for n, device in enumerate(devices)
    ]
    return Finding(State.GOOD, "; ".join([*shown, cores]))


def _look_at_disk(folders: Mapping[str, str]) -> Iterator[Finding]:
    for purpose, folder in folders.items():
        path = Path(folder).resolve()  # it need not be there yet
        place = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(place).free / _GIB
        yield Finding(State.GOOD, f"disk for {purpose} ({folder}): {free:.1f} GiB free")


main = partial(program.main, "doctor", examine)

if __name__ == "__main__":
    main()
