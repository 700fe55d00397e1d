"""Stage 7: which source weights survive. One file a layout of bits."""

from slth.mask.base import BIAS, Entries, Kept, Mask, UnivariateMask, univariate
from slth.mask.blocks import BlockMask
from slth.mask.candidates import CandidateMask, OutputMask
from slth.mask.copies import CopyMask
from slth.mask.kernels import EitherSignMask, KernelMask
from slth.mask.plain import PlainMask
from slth.mask.slots import SlotMask

__all__ = [
    "BIAS",
    "BlockMask",
    "CandidateMask",
    "CopyMask",
    "EitherSignMask",
    "Entries",
    "Kept",
    "KernelMask",
    "Mask",
    "OutputMask",
    "PlainMask",
    "SlotMask",
    "UnivariateMask",
    "univariate",
]
