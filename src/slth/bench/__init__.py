"""Measures slth against what others use for the same job, and checks every answer before it times one."""
