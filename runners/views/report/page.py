"""The page itself: one HTML file with style, script and data inside, which asks no network.

Nothing of a run ever becomes markup. The data stand in a block that the browser does not execute,
with `<` escaped so that nothing in it can end the block; the script puts them on the page as text;
and the page's own policy allows this one script and no address on the network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Template

from runners.errors import ConfigError
from runners.storage.files import is_there, naming_file, require_plain, write_atomic
from runners.views.policy import content_policy
from runners.views.report.thumbnails import MIME_TYPE, SUFFIX

REPORT_NAME = "report.html"
"""The page of a run, in its folder."""
MARK = "<!-- llava-evals report -->"
"""Stands in every page, so that no other file is replaced by mistake."""

_SCRIPTS = (
    *("dom", "report", "format", "charts", "summary", "filters", "filter_form", "list", "zoom"),
    *("detail", "saving", "live"),
    "main",  # the last one: it starts the page
)
_MEGABYTE = 1_000_000
_DIGITS = 16


def check_output(path: Path) -> None:
    """Checks that the page may be written, before anything is read.

    Raises:
        ConfigError: something else lies there.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder. Name a file as `output`.")
    if is_there(path) and not is_report(path):
        raise ConfigError(f"{path} exists and is no report. Choose another `output`, or remove it.")


def is_report(path: Path) -> bool:
    """Whether a file is a page that was written here."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(200)  # it stands in the second line


def write_page(
    path: Path,
    payload: Mapping[str, Any],
    thumbnails: Sequence[bytes],
    originals: Sequence[str],
    *,
    max_mb: float,
) -> Path | None:
    """Writes the page, and its thumbnails into a folder beside it if it would be too large.

    Args:
        path: The HTML file; an existing one is replaced.
        payload: What `build_payload` gave.
        thumbnails: WebP files by number.
        originals: The addresses of images in full by number.
        max_mb: The largest page with thumbnails inside, in millions of bytes.

    Returns:
        The folder with the thumbnails; None if they are in the page.

    Raises:
        ConfigError: something else than a file lies where one is to be written.
        WriteError: a file cannot be written there.
    """
    data = to_json(payload)
    encoded = [base64.b64encode(thumbnail).decode() for thumbnail in thumbnails]
    # Data and pictures are what grows: the rest of a page is about 70 kB.
    inside = sum(map(len, (data, *encoded, *originals))) <= max_mb * _MEGABYTE
    image_dir = None if inside or not thumbnails else path.with_name(f"{path.stem}-images")
    if image_dir is None:
        pictures = [f"data:{MIME_TYPE};base64,{text}" for text in encoded]
    else:
        names = _write_images(image_dir, thumbnails)
        pictures = [f"{image_dir.name}/{name}" for name in names]
    title = " and ".join(run["name"] for run in payload["runs"])
    write_atomic(path, render_page(data, pictures, originals, title))
    return image_dir


def to_json(value: Any) -> str:
    r"""Returns JSON that may stand in a script element: ASCII, and nothing that looks like a tag.

    >>> to_json("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", r"\u003c")


def render_page(
    data: str,
    pictures: Sequence[str],
    originals: Sequence[str],
    title: str,
    live: Mapping[str, object] | None = None,
) -> str:
    """Returns the page.

    Args:
        data: What `build_payload` gave, as JSON that may stand in a script element.
        pictures: The addresses of thumbnails by number.
        originals: The addresses of images in full by number.
        title: The names of the runs.
        live: What a page that is served tells of answers that still arrive; None for a file.
    """
    assets = files("runners.views.report") / "assets"
    style = (assets / "style.css").read_text(encoding="utf-8")
    modules = [(assets / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(modules) + "})();\n"
    rules = {"img-src": "data: file: 'self'"}  # file: for pictures beside a page on disk
    if live is not None:
        rules["connect-src"] = "'self'"
    template = Template(
        (assets / "page.html").read_text(encoding="utf-8"), keep_trailing_newline=True
    )
    return template.render(
        mark=MARK,
        policy=content_policy(style, script, rules),
        title=html.escape(title),
        style=style,
        script=script,
        data=data,
        pictures=to_json(pictures),
        originals=to_json(originals),
        live=to_json(live),
    )


def _write_images(folder: Path, thumbnails: Sequence[bytes]) -> list[str]:
    """Writes thumbnails under names by content, so that a repetition changes none."""
    with naming_file(folder):
        folder.mkdir(parents=True, exist_ok=True)
    names = [hashlib.sha256(thumbnail).hexdigest()[:_DIGITS] + SUFFIX for thumbnail in thumbnails]
    for name, thumbnail in zip(names, thumbnails, strict=True):
        require_plain(folder / name)
        with naming_file(folder / name):
            (folder / name).write_bytes(thumbnail)
    return names
