"""FiftyOne: ground truth and runs pushed as fields of one dataset, pre-labels, and corrections brought home.

The only package that imports fiftyone, and only inside functions: that import takes seconds, and the extra may be
absent.
"""
