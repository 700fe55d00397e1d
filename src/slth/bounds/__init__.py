"""Stage 2: the theorems and the laws behind them, as pure functions."""
