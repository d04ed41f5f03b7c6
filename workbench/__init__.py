"""The EoMT workbench: predict, evaluate, see and label segmentation data sets."""

__version__ = "0.1.0"
