"""How large base sets must be, measured: no theorem's constants, but draws, counts and confidence intervals."""
