"""The library's own exceptions: what a caller can mend, told in one message."""


class EomtError(Exception):
    """Base of the errors below; its message says the cause, the value, the place and the remedy."""


class ConfigError(EomtError, ValueError):
    """A configuration's values do not make a model."""


class CheckpointError(EomtError):
    """A checkpoint cannot be found, read, or does not fit the model that its configuration describes."""
