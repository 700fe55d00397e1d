"""Stage 7: which source weights survive. One file a layout of bits; all give their survivors in the same two lists."""

from slth.mask.base import BIAS, Entries, Kept, Mask
from slth.mask.blocks import BlockMask
from slth.mask.slots import SlotMask

__all__ = ["BIAS", "BlockMask", "Entries", "Kept", "Mask", "SlotMask"]
