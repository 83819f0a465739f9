"""The command `llava-evals`, and what finds its packages.

`llava`, `evals`, `conf` and `runners` are common names: a folder or file of another project that is
called so comes first where Python is started beside it. The name of this package is nobody else's.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module, invalidate_caches, metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("llava", "evals", "conf", "runners")
_ROOT = Path(__file__).absolute().parents[1]
_BAD_INPUT = 2


def find_foreign() -> Path | None:
    """Returns a folder or file that Python takes for one of the packages, but is another's."""
    for name in PACKAGES:
        module = sys.modules.get(name)
        spec = find_spec(name) if module is None else module.__spec__
        found = None if spec is None else next(iter(spec.submodule_search_locations or ()), None)
        place = (found or spec.origin) if spec is not None else None
        if place is not None and not _is_same(Path(place), _ROOT / name):
            return Path(place)
    return None


def explain_foreign(place: Path) -> str:
    """Returns the sentence about a folder or file that is in the way, with the ways out."""
    beside = place.parent
    if _is_same(beside, Path.cwd()):
        way_out = "start Python in another folder"
    elif any(_is_same(beside, Path(part)) for part in _python_path()):
        way_out = f"take {beside} out of PYTHONPATH"
    else:
        way_out = "use an environment without it"
    return (
        f"{place} is in the way: it is not part of llava-evals, but Python finds it under the name "
        f"of one of its packages. Use the command `llava-evals eval ...` in place of "
        f"`python -m runners.eval ...`, which works beside it, or {way_out}."
    )


def require_own() -> None:
    """Checks that the packages of this project are the ones that Python finds.

    Raises:
        ImportError: they are not.
        SystemExit: they are not, and `python -m` asked for one; the sentence is on stderr.
    """
    foreign = find_foreign()
    said = _explain_mixture() if foreign is None else explain_foreign(foreign)
    if said is None:
        return
    if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the module of `python -m`
        sys.stderr.write(f"{said}\n")
        raise SystemExit(_BAD_INPUT)
    raise ImportError(said)


def main() -> int:
    """The command; its packages are found wherever it is started."""
    if find_foreign() is not None:
        sys.path.insert(0, str(_ROOT))
        invalidate_caches()
    try:
        command = import_module("runners.command.main")
    except ImportError as error:
        if error.name is not None:  # a package that is missing, not one in the way
            raise
        sys.stderr.write(f"{error}\n")
        return _BAD_INPUT
    code: int = command.main(sys.argv[1:])
    return code


def _explain_mixture() -> str | None:
    """Says that LLaVA was installed into the very folder of this project's `llava`."""
    try:
        other = metadata.distribution("llava")
    except metadata.PackageNotFoundError:
        return None
    names = {str(file) for file in other.files or ()}
    if "llava/__init__.py" not in names or not _is_same(
        Path(str(other.locate_file("llava"))), _ROOT / "llava"
    ):
        return None
    return (
        f"{_ROOT / 'llava'} holds files of two packages: LLaVA ({other.version}) is installed into "
        "the same folder as llava-evals, and each has overwritten files of the other. Install "
        "llava-evals into an environment of its own."
    )


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
