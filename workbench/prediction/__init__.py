"""Run a model over a dataset, into a run folder: read, decode, batch, model, post-process, encode, write."""
