"""The server of pages: for this machine alone, and only to be read.

It listens on the loopback address. A page of another site that a browser on this machine shows
could still send requests here, under a name that leads to this machine; so a request must name the
machine itself as its host. What is asked for is looked up among the runs and images that are
known, and is never part of a path.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Protocol
from urllib.parse import unquote, urlsplit

from runners.environment import installed_version

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_OWN_NAMES = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_PATIENCE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a request is answered with.

    Attributes:
        content: The body.
        kind: Its media type.
        status: How it went.
        location: Where the browser is to go instead; empty to stay.
        lasts: Whether the address will always have this content.
    """

    content: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    location: str = ""
    lasts: bool = False


def refusal(status: HTTPStatus, text: str) -> Reply:
    """Returns the reply to a request that is not fulfilled."""
    return Reply(content=f"{text}\n".encode(), status=status)


class Pages(Protocol):
    """What is served."""

    def reply(self, parts: tuple[str, ...], query: str) -> Reply:
        """Returns the reply to a request.

        Args:
            parts: The names between the slashes of the address, decoded; the last is empty for an
                address that ends in a slash.
            query: What follows the question mark.
        """


class PageServer(ThreadingHTTPServer):
    """Serves pages on the loopback address; each request has a thread of its own.

    Args:
        port: Where; 0 for any that is free.
        pages: What.

    Raises:
        OSError: the port cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, pages: Pages) -> None:
        super().__init__((HOST, port), _Handler)
        self.pages = pages

    def server_bind(self) -> None:
        """Takes the port, without asking the network for the name of this machine."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Lets go of a browser that left; whatever else went wrong is told."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            logger.error("a request could not be answered: %s", error)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S

    def version_string(self) -> str:
        """What the server calls itself."""
        return f"llava-evals/{installed_version('llava-evals') or 'unknown'}"

    def do_GET(self) -> None:
        """Sends what is asked for."""
        self._send(self._reply())

    def do_HEAD(self) -> None:
        """Sends the same without its content."""
        self._send(self._reply())

    def do_POST(self) -> None:
        """Refuses to change anything."""
        self.close_connection = True  # what was sent along is not read
        self._send(refusal(HTTPStatus.METHOD_NOT_ALLOWED, "These pages can only be read."))

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the library
        """Keeps requests out of the terminal."""
        logger.debug(format, *args)

    def _reply(self) -> Reply:
        if not _is_own_host(self.headers.get_all("Host", [])):
            text = f"Ask for http://{HOST}:{self.server.server_port}/ on the machine itself."
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, text)
        address = urlsplit(self.path)
        if not address.path.startswith("/"):
            return refusal(HTTPStatus.BAD_REQUEST, "The address must begin with a slash.")
        parts = tuple(unquote(part, errors="surrogateescape") for part in address.path.split("/"))
        try:
            return self.server.pages.reply(parts[1:], address.query)
        except Exception as error:  # noqa: BLE001 - the other pages go on
            logger.error("%s cannot be shown: %s", address.path, error)
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"This cannot be shown: {error}")

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.content)))
        self.send_header("Cache-Control", "private, max-age=3600" if reply.lasts else "no-store")
        if reply.location:
            self.send_header("Location", reply.location)
        if reply.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.content)


def _is_own_host(given: list[str]) -> bool:
    """Whether a request names this machine as its host, whatever the port: one may be forwarded.

    >>> _is_own_host(["localhost:8800"]), _is_own_host(["[::1]:8800"]), _is_own_host(["evil.com"])
    (True, True, False)
    """
    if len(given) != 1:
        return False
    try:
        address = urlsplit(f"//{given[0]}")
        return address.hostname in _OWN_NAMES and address.username is None and not address.path
    except ValueError:
        return False
