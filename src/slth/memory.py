"""How much memory there is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")
"""What a container may use; "max" where it is not limited."""


def memory_bytes() -> int:
    """Memory of the machine, or the part of it that this process may use; 2^62 where nobody tells."""
    known = [1 << 62]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):
        known.append(int(_CONTROL_GROUP.read_text()))
    return min(number for number in known if number > 0)
