"""What kernels leave beside a problem."""

SOLVED, OPEN, BEYOND, DOUBTFUL = 0, 1, 2, 3
"""Solved; no subset of the sizes looked at; numbers too large for float64 sums; too close to tell, or too large."""
