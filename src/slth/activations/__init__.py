"""Activation functions as the theory sees them: slopes at 0, proved remainders, Lipschitz constants; your own."""

from slth.activations.base import Activation, check_first_layer
from slth.activations.composition import composed
from slth.activations.own import forget, register
from slth.activations.registry import ACTIVATIONS, parse

__all__ = ["ACTIVATIONS", "Activation", "check_first_layer", "composed", "forget", "parse", "register"]
