"""Let every test here import transformers, their oracle."""

import tests.reference.torchvision_part  # noqa: F401
