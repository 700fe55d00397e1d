"""How traced calls become nodes: one file a family, one line of registration each."""

from __future__ import annotations

from slth.network.rules.base import Rule, SeveralRule
from slth.network.rules.contraction import CONTRACTION_RULES
from slth.network.rules.linear import LINEAR_RULES, LINEAR_SEVERAL
from slth.network.rules.normalisation import NORMALISATION_RULES
from slth.network.rules.recurrent import RECURRENT_RULES, RECURRENT_SEVERAL
from slth.network.rules.tensors import TENSOR_RULES

RULES: dict[str, Rule] = {**LINEAR_RULES, **CONTRACTION_RULES, **NORMALISATION_RULES, **RECURRENT_RULES, **TENSOR_RULES}
"""For each torch operation that needs more than a node of its own kind: the rule, which may decline (None)."""

SEVERAL_RULES: dict[str, SeveralRule] = {**LINEAR_SEVERAL, **RECURRENT_SEVERAL}
"""The same for operations with several outputs."""

__all__ = ["RULES", "SEVERAL_RULES", "Rule", "SeveralRule"]
