"""The connection to a judge's endpoint: each call is bounded as a whole, in time and in size.

The client's own time limit counts from the last byte, so that an endpoint that drips would never
end. Its calls run in one event loop of their own, where a deadline ends whatever they wait for.

Importing this module needs the package `openai`.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import openai

# httpx, or what the installed version of openai has in its place
_httpx: Any = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

MAX_BYTES = 4 << 20
"""The longest reply of an endpoint; a judge's is a few kilobytes."""
_GZIP = 16 + zlib.MAX_WBITS  # what tells zlib's functions which format to read


class TooLongError(OSError):
    """An endpoint sent more than a reply can be."""


class _Bounded(_httpx.AsyncByteStream):
    """The bytes of a reply, up to the longest that one may be, be they packed or not."""

    def __init__(self, stream: Any, *, is_packed: bool) -> None:
        self._stream = stream
        self._unpacker = zlib.decompressobj(_GZIP) if is_packed else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for packed in self._stream:
            chunk = packed
            if self._unpacker is not None:
                chunk = self._unpacker.decompress(packed, MAX_BYTES + 1)
            num_bytes += max(len(packed), len(chunk))
            if num_bytes > MAX_BYTES:
                raise TooLongError(f"the reply is longer than {MAX_BYTES:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: Any) -> None:
    """Bounds a reply, and unpacks it, since a few kilobytes may unpack to gigabytes.

    Raises:
        OSError: it is packed in a way that it was not asked for.
    """
    packing = response.headers.pop("content-encoding", "identity").strip().lower()
    if packing not in ("", "identity", "gzip"):
        raise OSError(f"the reply is packed as {packing[:20]!r}, which was not asked for")
    response.stream = _Bounded(response.stream, is_packed=packing == "gzip")


class Connection:
    """An endpoint that speaks OpenAI's chat completions; safe to share between threads.

    Args:
        base_url: Its address.
        api_key: Its key.
        timeout_s: How long a call may take.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, base_url: str, api_key: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        try:
            parts = urlsplit(base_url)
            is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # its text may hold a part of the password
            raise ValueError(
                "host and port cannot be told in it; a password must be percent-encoded"
            ) from None
        if not is_address:
            raise ValueError("it names no http(s) host")
        try:
            self._client = openai.AsyncOpenAI(
                api_key=api_key,
                base_url=base_url,
                timeout=timeout_s,
                max_retries=0,  # repeated by the caller, so that its rate counts every attempt
                http_client=openai.DefaultAsyncHttpxClient(
                    headers={"Accept-Encoding": "gzip"}, event_hooks={"response": [_bound]}
                ),
            )
        except _httpx.InvalidURL as error:
            raise ValueError(str(error)) from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def complete(self, **request: Any) -> Any:
        """Returns the endpoint's reply to one request.

        Raises:
            OSError: there is none; TimeoutError where it was not there in time.
            openai.OpenAIError: there is none, by the endpoint's own words.
        """
        call = self._client.chat.completions.create(**request)
        bounded = asyncio.wait_for(call, self._timeout_s)
        try:
            return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"no whole reply in {self._timeout_s:g} s") from error
        except (_httpx.HTTPError, _httpx.InvalidURL, zlib.error) as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Ends the calls that are still waiting, and closes the connections."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut_down(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_asyncgens()
