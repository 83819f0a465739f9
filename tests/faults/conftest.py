"""The programs as a user starts them, as in the tests of the programs themselves."""

from tests.runners.conftest import cache_home, call, demo_options, demo_run, shell, start

__all__ = ["cache_home", "call", "demo_options", "demo_run", "shell", "start"]
