"""One module a format: files on disk <-> segment tables."""
