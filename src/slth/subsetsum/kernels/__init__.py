"""Compiled kernels: what is told to a machine about subset sums, and how one thread calls it."""
