"""The exceptions of the model package."""


class CheckpointError(Exception):
    """What lies on disk is not the checkpoint that was asked for; the message says the remedy."""


class ConversationError(ValueError):
    """No conversation template is known for a checkpoint, or an unknown one was asked for."""


_MAX_CHARACTERS = 300


def reason_of(error: BaseException) -> str:
    r"""Returns an error's message such that it can stand within a sentence.

    It is in one line, cut where it is very long, and without the period that it may end in.

    >>> reason_of(ValueError("No such layer.\n  Try another."))
    'No such layer. Try another'
    """
    return " ".join(str(error).split())[:_MAX_CHARACTERS].rstrip(". ")
