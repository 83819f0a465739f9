"""The exceptions of the benchmarks package."""


class DataError(Exception):
    """A data or answer file is not what it should be; the message names file, place and remedy."""


class MissingFileError(DataError):
    """A file is not where it is expected; the message says where it is to be had."""
