"""The pages that are served: the index, the report of each run, and its images."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from evals.errors import DataError
from evals.reading.files import file_state
from evals.reading.images import ImageSource
from runners.errors import ConfigError
from runners.options.given import TaskChoice
from runners.storage.files import sha256_of_json
from runners.storage.specs import read_run_specs
from runners.storage.stored import StoredRun, list_runs
from runners.view.server import Reply, refusal
from runners.views.report.gathering import gather
from runners.views.report.index import Link, index_runs, render_index
from runners.views.report.page import render_page, to_json
from runners.views.report.payload import Pictures, build_payload
from runners.views.report.shown_task import DataReader
from runners.views.report.thumbnails import LARGEST_PX, MIME_TYPE, ImageName, choose_images, encode

logger = logging.getLogger(__name__)

_HTML = "text/html; charset=utf-8"
_NUM_KEPT = 4
"""So many reports are kept ready."""
_LEAST_PAUSE_S, _PAUSE_FACTOR = 2.0, 5.0
"""A page asks for news after this time, or so many times as long as it took to make."""
_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """A report that is ready to be sent.

    Attributes:
        version: Of the run's files that it was made of.
        page: The page.
        images: The images on it, by the names in their addresses.
    """

    version: str
    page: bytes
    images: Mapping[str, ImageSource]


class ServedRuns:
    """The runs of a results folder, read whenever a page of them is asked for.

    What leads out of the folder through a link is not shown.

    Args:
        folder: The results folder.
        choice: The benchmarks that are shown, none for all, and where their data lie.
        only: The one run that is shown; None for all.
        thumbnail_px: The longer side of a thumbnail.
    """

    def __init__(
        self, folder: Path, choice: TaskChoice, *, only: str | None, thumbnail_px: int
    ) -> None:
        self._folder = folder
        self._root = folder.resolve()
        self._choice = choice
        self._only = only
        self._thumbnail_px = thumbnail_px
        self._read_data = DataReader()
        self._built: dict[str, _Built] = {}
        self._building = threading.Lock()
        self._told: set[str] = set()

    def reply(self, parts: tuple[str, ...], query: str) -> Reply:
        """Returns the reply to a request; see `Pages`."""
        try:
            return self._find(parts, query) or _nothing()
        except (ConfigError, DataError) as error:
            return refusal(HTTPStatus.CONFLICT, str(error))

    def _find(self, parts: tuple[str, ...], query: str) -> Reply | None:
        """The reply; None if there is nothing at the address."""
        if parts == ("",):
            return self._index()
        run = self._runs().get(parts[1]) if parts[0] == "run" and len(parts) > 1 else None
        if run is not None:
            match parts[2:]:
                case ():
                    address = f"/run/{quote(os.fsencode(run.folder.name), safe='')}/"
                    return Reply(status=HTTPStatus.MOVED_PERMANENTLY, location=address)
                case ("",):
                    return Reply(content=self._report(run).page, kind=_HTML)
                case ("version",):
                    return Reply(content=_version(run).encode())
                case ("image", image):
                    return self._image(run, image, is_small=query == "small")
        return None

    def _runs(self) -> dict[str, StoredRun]:
        """The runs that are shown, by name."""
        found = {}
        for run in list_runs(self._folder, self._tell):
            tasks = {name: t for name, t in run.tasks.items() if self._is_inside(t.folder)}
            if tasks and self._only in (None, run.folder.name):
                found[run.folder.name] = StoredRun(folder=run.folder, tasks=tasks)
        return found

    def _is_inside(self, folder: Path) -> bool:
        """Whether a folder and what lies in it are in the results folder, links followed."""
        fault = ""
        try:
            for path in (folder, *folder.iterdir()):
                if not fault and not path.resolve().is_relative_to(self._root):
                    fault = f"{path} leads out of {self._folder}"
        except OSError as error:  # it may be somebody else's
            fault = f"{folder} cannot be read ({error.strerror})"
        if fault:
            self._tell(f"{fault} and is not shown")
        return not fault

    def _tell(self, fault: str) -> None:
        if fault not in self._told:
            self._told.add(fault)
            logger.warning("%s", fault)

    def _index(self) -> Reply:
        def pages_of(run: StoredRun) -> list[Link]:
            return [("report", f"run/{quote(os.fsencode(run.folder.name), safe='')}/")]

        runs = index_runs(list(self._runs().values()), pages_of)
        page = render_index(str(self._folder), runs, is_live=True)
        return Reply(content=_encoded(page), kind=_HTML)

    def _report(self, run: StoredRun) -> _Built:
        """The report of a run as it is now."""
        name = run.folder.name
        with self._building:
            version = _version(run)  # before it is read: what comes meanwhile makes another one
            built = self._built.pop(name, None)
            if built is None or built.version != version:
                built = self._build(run, version)
            self._built[name] = built  # the last one asked for is the last one to go
            while len(self._built) > _NUM_KEPT:
                del self._built[next(iter(self._built))]
        return built

    def _build(self, run: StoredRun, version: str) -> _Built:
        started = time.monotonic()
        gathered = gather(self._choice, [run], self._read_data)
        images = choose_images(gathered.tasks)
        names = [_address_of(name, image) for name, image in images.items()]
        pictures = {name: Pictures(thumbnail=n, full=n) for n, name in enumerate(images)}
        data = to_json(build_payload(gathered, pictures))
        pause_s = max(_LEAST_PAUSE_S, _PAUSE_FACTOR * (time.monotonic() - started))
        live = {
            "version": version,
            "index": "../../",
            "every_s": round(pause_s, 1),
            "num_answers": sum(len(task.rows) for task in gathered.tasks),
            "num_questions": self._num_questions(run),
        }
        page = render_page(
            data,
            [f"image/{name}?small" for name in names],
            [f"image/{name}" for name in names],
            run.name,
            live,
        )
        return _Built(
            version=version,
            page=_encoded(page),
            images=dict(zip(names, images.values(), strict=True)),
        )

    def _num_questions(self, run: StoredRun) -> int | None:
        """How many questions the tasks of a run ask; None where that is not known."""
        total = 0
        for name, spec in read_run_specs(self._choice, run).items():
            task = run.tasks.get(name)
            manifest = None if task is None else task.manifest
            number = len(self._read_data(spec).samples)
            if manifest is None or manifest.shard is not None or not number:
                return None
            total += number if manifest.limit is None else min(number, manifest.limit)
        return total

    def _image(self, run: StoredRun, image: str, *, is_small: bool) -> Reply | None:
        built = self._built.get(
            run.folder.name
        )  # of which version does not matter: names are by content
        if built is None or image not in built.images:
            built = self._report(run)
        source = built.images.get(image)
        max_px = self._thumbnail_px if is_small else LARGEST_PX
        content = None if source is None else encode(source, max_px)
        return None if content is None else Reply(content=content, kind=MIME_TYPE, lasts=True)


def _nothing() -> Reply:
    return refusal(HTTPStatus.NOT_FOUND, "There is nothing at this address.")


def _encoded(page: str) -> bytes:
    return page.encode(errors="backslashreplace")  # a folder's name may hold half a character


def _version(run: StoredRun) -> str:
    """What changes with every file of a run."""
    states = [
        [task.name, path.name, *file_state(path)]
        for task in run.tasks.values()
        for path in sorted(task.folder.iterdir())
        if path.is_file()
    ]
    return sha256_of_json(states)


def _address_of(name: ImageName, image: ImageSource) -> str:
    """The name of an image in addresses; a file or table that changes gives it another one."""
    try:
        state = str(file_state(image.path))
    except (OSError, ValueError):
        state = ""
    named = "\0".join((*name, repr(image), state))
    return hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
