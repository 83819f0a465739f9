"""What a program tells while it works, on stderr and in the run's log file; its end on stdout.

Passwords and keys stand in no file, log or message. What is known to be secret (the key of an
endpoint) is given; the rest is told by its form.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from logging.handlers import MemoryHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from runners.errors import INCOMPLETE

LOG_FILE = "run.log"
_PACKAGES = ("runners", "evals", "llava")
MASK = "***"
PLAIN, JSON = FORMS = ("plain", "json")
"""How lines are told on stderr: as they are, or as JSON objects."""
NUMBERS = "numbers"
"""What a record may have beside its message, as `extra`: a mapping for JSON lines."""
_SILENT_S = 2.0
_is_drawn = [True]  # the last one counts, see `lines_only`

_NAME = r"(?:api[_-]?key|access[_-]?key|token|secret|password|passwd)"
_PARAMETER = r"(?:key|sig|signature|credential|auth|authorization|pwd|jwt|sas|code)"
_MASKED = (
    # user and password of an address; also one whose password should have been quoted, or that
    # lacks its beginning
    (re.compile(r"(://)[^/?#\s]*@"), rf"\1{MASK}@"),
    (re.compile(r"(://)[^/?#\s:@]*:(?!\d+[/?#])[^\s@]*@"), rf"\1{MASK}@"),
    (re.compile(r"(?<![\w/.-])[^\s:/@'\"=]+:(?!//)[^\s@'\"/]+@"), f"{MASK}@"),
    (re.compile(rf"([?&][\w.%-]*{_PARAMETER}=)[^&#\s'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"(\b(?:[\w.-]*[_.-])?{_NAME}=)[^&#\s'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic) +[^\s'\",]+"), rf"\1 {MASK}"),
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,})"), MASK),
)
_SHORTEST = 4  # of a secret that is looked for as it stands; a shorter one is found everywhere


def mask_secrets(text: str, known: Collection[str] = ()) -> str:
    """Returns a text without what looks like a password or a key, and without those that are known.

    >>> mask_secrets("base_url=https://me:pw@host/v1?api_key=abc predictions=a.jsonl")
    'base_url=https://***@host/v1?api_key=*** predictions=a.jsonl'
    """
    for secret in known:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    for pattern, masked in _MASKED:
        text = pattern.sub(masked, text)
    return text


def public_address(url: str) -> str:
    """Returns an address without user and password, and without the keys among its parameters.

    >>> public_address("http://me:pw@host:8000/v1")
    'http://host:8000/v1'
    """
    return mask_secrets(url).replace(f"{MASK}@", "")


def secrets_in(url: str) -> list[str]:
    """Returns the password in an address, as it stands there and as it is meant; [] if none."""
    try:
        password = urlsplit(url).password
    except ValueError:  # it is no address
        return []
    return [] if not password else [password, unquote(password)]


class _ConsoleHandler(logging.Handler):
    """Writes above a progress bar, if one is drawn; tracebacks and details are for the log file."""

    def __init__(self, *, quiet: bool, form: str) -> None:
        super().__init__()
        self._quiet = quiet
        if form == JSON:
            self.setFormatter(_JsonFormatter())

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets through what the programs say, unless quiet, and from elsewhere only warnings."""
        is_ours = record.name.startswith("runners") and not self._quiet
        return record.levelno >= logging.WARNING or is_ours

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        plain = self.formatter is None
        text = mask_secrets(record.getMessage()) if plain else self.format(record)
        tqdm.write(text, file=sys.stderr)


def tell(message: str, level: int = logging.ERROR) -> None:
    """Prints on stderr what is no line of a log; as an object where `log=json` was typed."""
    is_json = any(word.lstrip("+") == f"log={JSON}" for word in sys.argv[1:])
    handler = _ConsoleHandler(quiet=False, form=JSON if is_json else PLAIN)
    handler.emit(logging.LogRecord("runners", level, "", 0, message, None, None))


def print_rest(code: int) -> int:
    """Prints what stdout still holds; Python would at its end, with an exit code of its own.

    Returns the exit code of the program: the given one, or 1 where the output found no room.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as in `| head`
        drop_output()
    except OSError as error:
        drop_output()
        tell(f"stdout cannot be written: {error.strerror}. Make room there, or print elsewhere.")
        return code or INCOMPLETE
    return code


def drop_output() -> None:
    """Prints into the void from now on: nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _JsonFormatter(logging.Formatter):
    """Writes a line as a JSON object: time, level, logger, message, and numbers if it has any."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the object of a record."""
        at = datetime.fromtimestamp(record.created, timezone.utc)
        content = {
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask_secrets(record.getMessage()),
            **getattr(record, NUMBERS, {}),
        }
        return json.dumps(content, ensure_ascii=False)


class _Formatter(logging.Formatter):
    """Writes lines, and tracebacks, without passwords and keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns what the file holds of a record."""
        return mask_secrets(super().format(record))


class _LogFile(logging.FileHandler):
    """A log on a disk that may be full: what it does not take is passed over.

    The next answer fails on the same disk and stops the run with one paragraph, which tracebacks
    about lines of a log would bury.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - name of the library
        """Lets go of a line that the disk did not take; other errors are told as usual."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Closes the file, also if the disk does not take its last lines."""
        with suppress(OSError):
            super().close()


def terminal_size() -> os.terminal_size:
    """Returns columns and lines of the terminal behind stderr; usual ones where it has none.

    A pseudo-terminal of another program may say 0, where tqdm would draw nothing.
    """
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or 80, size.lines or 24))


def stdout_columns() -> int:
    """Returns how long a printed line may be: as the terminal is wide, elsewhere without an end."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        columns = 0
    return columns or sys.maxsize


@contextmanager
def lines_only(when: bool) -> Iterator[None]:
    """While it is entered, nothing is drawn in a terminal, if that is asked for."""
    _is_drawn.append(not when)
    try:
        yield
    finally:
        _is_drawn.pop()


def is_drawn() -> bool:
    """Whether bars and the like are shown: in a terminal, unless only lines are to be told."""
    return sys.stderr.isatty() and _is_drawn[-1]


@contextmanager
def doing(what: str) -> Iterator[None]:
    """While it is entered, a terminal says what is being done, from the third second on.

    Not to be nested: each would have a line of its own.
    """
    if not is_drawn():
        yield
        return
    over, started = threading.Event(), time.monotonic()

    def show() -> None:
        if over.wait(_SILENT_S):
            return
        columns, lines = terminal_size()
        with tqdm(bar_format="{desc}", leave=False, ncols=columns, nrows=lines) as line:
            while not over.is_set():
                line.set_description_str(f"{what} ({time.monotonic() - started:.0f} s)")
                over.wait(1.0)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class RunLog:
    """While it is entered, the packages log to stderr and, once attached, to a file.

    Lines from before `attach` are kept and come first in the file, so that nothing has to be
    created for a run that does not start.

    Args:
        quiet: Tell on stderr only what goes wrong.
        form: How lines are told there, one of `FORMS`; the file is plain.
    """

    def __init__(self, *, quiet: bool = False, form: str = PLAIN) -> None:
        self._console = _ConsoleHandler(quiet=quiet, form=form)
        self._waiting = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self._file: logging.FileHandler | None = None

    def attach(self, folder: Path) -> None:
        """Goes on in `run.log` in the given folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _LogFile(folder / LOG_FILE, encoding="utf-8", errors="backslashreplace")
        self._file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._waiting.setTarget(self._file)
        self._waiting.close()
        for name in _PACKAGES:
            logging.getLogger(name).removeHandler(self._waiting)
            logging.getLogger(name).addHandler(self._file)

    def __enter__(self) -> RunLog:
        for name in _PACKAGES:
            package = logging.getLogger(name)
            package.setLevel(logging.INFO)
            package.addHandler(self._console)
            package.addHandler(self._waiting)
        return self

    def __exit__(self, *_: object) -> None:
        for name in _PACKAGES:
            for handler in (self._console, self._waiting, self._file):
                if handler is not None:
                    logging.getLogger(name).removeHandler(handler)
        if self._file is not None:
            self._file.close()
