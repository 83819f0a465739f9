"""What the pages may do: run the one script that they hold, and ask no address on the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

_NOTHING_ELSE = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def content_policy(style: str, script: str, others: Mapping[str, str] | None = None) -> str:
    """Returns the content security policy of a page.

    Args:
        style: What stands in the page's one style element.
        script: What stands in its one script element.
        others: Further rules.
    """
    rules = {
        **_NOTHING_ELSE,
        "script-src": f"'sha256-{_sha256(script)}'",
        "style-src": f"'sha256-{_sha256(style)}'",
        **(others or {}),
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
