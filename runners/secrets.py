"""Passwords and keys, which stand in no file, log or message: how they are left out of texts.

What is known to be secret (the key of an endpoint) is given; the rest is told by its form.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

MASK = "***"

_NAME = r"(?:api[_-]?key|access[_-]?key|token|secret|password|passwd)"
_MASKED = (
    (re.compile(r"(://)[^/?#\s]*@"), rf"\1{MASK}@"),  # user and password of an address
    (re.compile(r"([?&](?:key|sig|signature)=)[^&#\s'\"]+", re.IGNORECASE), rf"\1{MASK}"),
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
    return mask_secrets(url).replace(f"://{MASK}@", "://")


def secrets_in(url: str) -> list[str]:
    """Returns the password in an address, as it stands there and as it is meant; [] if none."""
    try:
        password = urlsplit(url).password
    except ValueError:  # it is no address
        return []
    return [] if not password else [password, unquote(password)]
