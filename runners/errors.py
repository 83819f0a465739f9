"""The exceptions of the programs."""


class ConfigError(Exception):
    """Options contradict each other or what lies on disk; the message says a way out."""


class WorkerError(Exception):
    """A worker process ended before its work was done; what it had answered is stored."""


class StoreError(Exception):
    """Answers cannot be written any more, as on a full disk; what was answered before is stored."""


class WriteError(OSError):
    """A file could not be written; `filename` says which, also where the system does not."""


class CanaryError(Exception):
    """A few questions asked first show that the model is broken; nothing was stored."""


class RemoteError(Exception):
    """An error of another process; the message is its traceback, and it is the cause of others."""
