"""Stage 8: how far a ticket is from its target: proved over a domain, and found by search. Trusts no earlier stage.

The package can be called: ``slth.certify(ticket, model, domain)`` is :func:`slth.certify.prove.certify`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slth.certify.certificate import Certificate


class _Package(ModuleType):
    """A function of the package's name would be lost as soon as a module of the package is imported."""

    def __call__(self, ticket: Any, model: Any, domain: Any, **options: Any) -> Certificate:
        """Prove how far a ticket is from its target: see :func:`slth.certify.prove.certify`."""
        from slth.certify.prove import certify

        return certify(ticket, model, domain, **options)


sys.modules[__name__].__class__ = _Package
