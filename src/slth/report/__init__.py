"""Plots and the HTML page of a ticket; nothing here computes results beyond counting what the mask holds."""
