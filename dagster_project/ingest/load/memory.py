"""How the process keeps memory: little of what was freed, so that a load's peak is what it needs at one time.

Only settings of allocators; what is held at one time is bounded where it is held (chunks, blocks, slices of CSV).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_THRESHOLD: Final = 256 * 1024


def keep_little() -> None:
    """Give freed buffers back to the system.

    glibc raises its threshold for doing so with the first large buffer that is freed, up to 32 MiB, and keeps what is
    smaller; Arrow's own allocator keeps buffers per thread. Measured with a million ratings: peak 172 MiB instead of
    222 MiB, for 0.05 s of processor time.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none
            mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
