"""A server on 127.0.0.1 that speaks OpenAI's chat completions, well or badly as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str | bytes, dict[str, str]]
"""Status, body and further headers."""


def completion(text: Any, usage: tuple[int, int] | None = (100, 2)) -> Answer:
    """A well-formed reply."""
    body: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "j",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
    }
    if usage is not None:
        asked, replied = usage
        body["usage"] = {
            "prompt_tokens": asked,
            "completion_tokens": replied,
            "total_tokens": asked + replied,
        }
    return 200, json.dumps(body), {}


def failure(status: int, code: str = "", **headers: str) -> Answer:
    """An error as the protocol has it."""
    body = {"error": {"message": f"failed with {status}", "type": "t", "code": code or None}}
    return status, json.dumps(body), {name.replace("_", "-"): v for name, v in headers.items()}


class ChatServer:
    """The server; it remembers what it was asked, and when.

    Args:
        answers: What the first requests get, one after another; then `otherwise` decides.
        otherwise: What a request gets.
        delay_s: How long a reply takes.
        drip_s: How long the server waits between the bytes of a reply; 0 sends it whole.
    """

    def __init__(
        self,
        *answers: Answer,
        otherwise: Callable[[dict[str, Any]], Answer] = lambda _: completion("1.0"),
        delay_s: float = 0.0,
        drip_s: float = 0.0,
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: list[str | None] = []
        self._answers = list(answers)
        self._lock = threading.Lock()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # the client has heard enough
                    super().handle()

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                status, body, headers = chat._take(
                    self.path, json.loads(content), self.headers["Authorization"], otherwise
                )
                time.sleep(delay_s)
                sent = body.encode() if isinstance(body, str) else body
                try:
                    self.send_response(status)
                    kind = {"Content-Type": "application/json", **headers}
                    for name, value in {**kind, "Content-Length": str(len(sent))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    size = 1 if drip_s else len(sent) or 1
                    for begin in range(0, len(sent), size):
                        self.wfile.write(sent[begin : begin + size])
                        time.sleep(drip_s)
                except (BrokenPipeError, ConnectionResetError):  # the client was killed
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.requests]

    def _take(
        self,
        path: str,
        request: dict[str, Any],
        key: str | None,
        otherwise: Callable[[dict[str, Any]], Answer],
    ) -> Answer:
        with self._lock:
            assert path == "/v1/chat/completions"
            self.requests.append(request)
            self.times.append(time.monotonic())
            self.keys.append(key)
            return self._answers.pop(0) if self._answers else otherwise(request)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
