"""Anyone's predictions -> a run: one module a format, and `api.py` that makes the run folder."""
