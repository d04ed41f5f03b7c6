"""The compiled loop of AP's bootstrap. Importing this module imports numba: do it where the kernel is needed."""

from workbench.evaluation import ap_resampling
from workbench.jit import compiled

resample_curves = compiled(
    "void(int32[:, ::1], int64[:, :, ::1], int64[::1], int32[::1], uint8[::1], uint8[:, ::1], boolean[:, :, ::1],"
    " boolean[:, :, ::1], float64[::1], int64[::1], float64[:, :, :, :, ::1], float64[:, :, :, :, ::1])"
)(ap_resampling.resample_curves)
