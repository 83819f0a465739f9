"""The exceptions of the model package."""


class CheckpointError(Exception):
    """What lies on disk is not the checkpoint that was asked for; the message says the remedy."""


class ConversationError(ValueError):
    """No conversation template is known for a checkpoint, or an unknown one was asked for."""
