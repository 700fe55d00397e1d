"""Stage 4: the random network, a function of a seed and a specification, made block by block."""
