"""The exceptions of the benchmarks package."""


class DataError(Exception):
    """A data or answer file is not what it should be; the message names file, place and remedy."""
