"""The few options of what is no program: `name=value`, without Hydra and its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runners.errors import ConfigError
from runners.options.complaints import did_you_mean


def read_plain(words: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Returns the value of every option.

    Raises:
        ConfigError: a word is no option.

    >>> read_plain(["results_dir=runs"], {"results_dir": "results", "yes": "false"})
    {'results_dir': 'runs', 'yes': 'false'}
    """
    values = dict(defaults)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in values or not equals:
            plain = name.lstrip("-").replace("-", "_")
            meant = did_you_mean(plain, defaults) or f"There are: {'=, '.join(defaults)}=."
            if plain in defaults:
                meant = f"Write `{plain}={value or 'VALUE'}`."
            raise ConfigError(f"`{word}` is no option. {meant}")
        values[name] = value
    return values
