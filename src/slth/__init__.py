"""slth: the workbench for strong lottery tickets.

A trained network goes in; out comes a larger random network, fixed by a seed, with a binary mask under which it
computes the same function, and a certificate of how close it is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Certificate": "slth.certify.certificate",
    "Domain": "slth.domain",
    "NeuronTicket": "slth.neurons.ticket",
    "SlthError": "slth.errors",
    "Target": "slth.network.target",
    "Ticket": "slth.ticket",
    "Verification": "slth.certify.verify",
    "approximate_neurons": "slth.neurons.find",
    "find_neurons": "slth.neurons.find",
    "find_ticket": "slth.pipeline",
    "from_pretrained": "slth.pretrained",
    "load": "slth.artifact",
    "load_certificate": "slth.certify.certificate",
    "load_neurons": "slth.neurons.file",
    "requirements": "slth.forecast.requirements",
    "verify": "slth.certify.verify",
    "verify_neurons": "slth.neurons.verify",
}
"""Public names and where they live; loaded when first used, so that ``import slth`` costs nothing."""

if TYPE_CHECKING:
    from slth.artifact import load
    from slth.certify.certificate import Certificate, load_certificate
    from slth.certify.prove import certify
    from slth.certify.verify import Verification, verify
    from slth.domain import Domain
    from slth.errors import SlthError
    from slth.forecast.requirements import requirements
    from slth.network.target import Target
    from slth.neurons.file import load_neurons
    from slth.neurons.find import approximate_neurons, find_neurons
    from slth.neurons.ticket import NeuronTicket
    from slth.neurons.verify import verify_neurons
    from slth.pipeline import find_ticket
    from slth.pretrained import from_pretrained
    from slth.ticket import Ticket

__all__ = [
    "Certificate",
    "Domain",
    "NeuronTicket",
    "SlthError",
    "Target",
    "Ticket",
    "Verification",
    "approximate_neurons",
    "certify",
    "find_neurons",
    "find_ticket",
    "from_pretrained",
    "load",
    "load_certificate",
    "load_neurons",
    "requirements",
    "verify",
    "verify_neurons",
]


def __getattr__(name: str) -> Any:
    if name in ("certify", "export"):
        # slth.certify is a package that can be called.
        return importlib.import_module(f"slth.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'slth' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
