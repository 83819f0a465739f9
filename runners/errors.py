"""The exceptions of the programs, and what every program exits with."""

import errno

COMPLETE = 0
INCOMPLETE = 1
"""Answers are missing, a gate failed, the canary stopped the run, or the disk is full."""
BAD_INPUT = 2
"""Configuration, data or checkpoint are wrong; told before the first answer."""
UNDECIDED = 3
"""A gate cannot tell whether the candidate is worse."""
INTERRUPTED, TERMINATED = 130, 143
"""After SIGINT and SIGTERM, as a shell reports them."""


DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no room, or none for this user or file."""


class ConfigError(Exception):
    """Options contradict each other or what lies on disk; the message says a way out."""


class WorkerError(Exception):
    """A worker process ended before its work was done; what it had answered is stored."""


class StoreError(Exception):
    """Answers cannot be written any more, as on a full disk; what was answered before is stored."""


class WriteError(OSError):
    """A file could not be written; `filename` says which, also where the system does not."""


class JudgeError(OSError):
    """The judge gives no replies; those that it gave before are stored."""


class CanaryError(Exception):
    """A few questions asked first show that the model is broken; nothing was stored."""


class RemoteError(Exception):
    """An error of another process; the message is its traceback, and it is the cause of others."""
