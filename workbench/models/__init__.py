"""Checkpoints that can be had: which there are, what one holds, and converting it to the published layout."""
