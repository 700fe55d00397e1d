"""Stage 1: what a target network is: its weight layers in order and the graph around them."""
