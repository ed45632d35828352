"""Memory that was freed goes back to the system: the allocators keep it, and a limit counts what is kept."""

import ctypes

import pyarrow as pa


def give_back() -> None:
    """Batches are of ever other sizes, so the heap's holes grow: by a gigabyte in an epoch of the sequence trainer.

    Where the C library is not GNU's, only Arrow's memory goes back.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
