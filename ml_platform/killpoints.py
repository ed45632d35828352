"""Named points at which a test may kill the process, as a power cut would.

A test seam, and nothing else: with `ML_PLATFORM_KILL_AT=<name>` in the environment the process sends itself SIGKILL
when it passes that point, so no handler, `finally` or flush runs. Without the variable a kill point does nothing.
"""

import os
import signal


def kill_point(name: str) -> None:
    """Dies here, uncatchably, when the environment names this point."""
    if os.environ.get("ML_PLATFORM_KILL_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
