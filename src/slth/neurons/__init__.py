"""Neuron pruning (Malach et al. 2020, section 3): a data set in, a neuron-subnetwork of a random network out."""

from slth.neurons.find import approximate_neurons, find_neurons
from slth.neurons.samples import Samples, read_samples
from slth.neurons.source import NeuronSource
from slth.neurons.ticket import Measured, NeuronTicket
from slth.neurons.verify import NeuronVerification, verify_neurons

__all__ = [
    "Measured",
    "NeuronSource",
    "NeuronTicket",
    "NeuronVerification",
    "Samples",
    "approximate_neurons",
    "find_neurons",
    "read_samples",
    "verify_neurons",
]
