"""Scale transfer: sources drawn as Kaiming or Xavier have it, evaluated with one factor for each source layer.

Theory 0.5: a source layer drawn from U[-sigma, sigma] is evaluated with its weights times lambda. Here sigma is what
the initialisation says for the layer's shape, so that the source itself knows nothing of the target's weights, and
lambda is a power of 2, so that multiplying rounds nothing: a surviving weight is the source's, with another exponent.
The products of both layers then have a scale within a factor sqrt(2) of the one that a plan would choose. Errors are
proportional to the scale, and halve with every element, so that this costs at most half an element.
"""

from __future__ import annotations

import math
from dataclasses import replace

from slth.activations import Activation
from slth.plan import Size

_ANYWHERE = 2.0**100


def transferred(size: Size, drawn_scales: tuple[float, float], activation: Activation) -> Size:
    """The size with powers of 2 as factors, for weights that come with scales of their own.

    The expanding layer has the factor 1, unless the activation is a line only near 0 and asks for smaller weights.

    Parameters
    ----------
    size : Size
        As chosen for weights without scales: ``scale`` and ``expand_scale`` are those wished for.
    drawn_scales : pair of float
        Of the expanding and of the combining layer.
    activation : Activation
        Between the two.
    """
    expand, combine = drawn_scales
    power = 0
    if activation.remainder(_ANYWHERE) > 0.0:
        power = min(0, math.floor(math.log2(size.expand_scale / expand)))
    product = size.scale * size.expand_scale
    factor = 2.0 ** round(math.log2(product) - math.log2(expand) - math.log2(combine) - power)
    return replace(size, scale=factor, expand_scale=2.0**power, drawn_scale=combine)
