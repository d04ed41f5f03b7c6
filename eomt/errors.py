"""The library's own exceptions: what a caller can mend, told in one message."""


class EomtError(Exception):
    """Base of the errors below; its message says the cause, the value, the place and the remedy."""


class ConfigError(EomtError, ValueError):
    """A configuration's values do not make a model."""


class CheckpointError(EomtError):
    """A checkpoint cannot be found, read, or does not fit the model that its configuration describes."""


class ProcessorError(EomtError, ValueError):
    """An image processor's settings, or the sizes and outputs that it is given, do not fit together."""


class ImageInputError(EomtError, ValueError):
    """An image or a label map that was passed in cannot be read as one."""


class LabelMapError(EomtError, ValueError):
    """A label map has the wrong shape or type, or holds an id that `instance_id_to_semantic_id` lacks."""
