"""Segment tables -> files of other people's formats: one writer a format, and `api.py` that exports a run.

The writers take pairs of a segment table and its image table, as `Dataset.ground_truth` gives them and a run's store
does, so that predictions, ground truth and corrected labels are written alike.
"""
