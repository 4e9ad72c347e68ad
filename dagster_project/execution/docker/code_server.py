"""The code server, made to end when the process that holds the code has died.

Dagster's ``code-server start`` is two processes: one listens, the other has loaded the code. When the second dies (the
kernel ends the larger one where memory runs out) the first goes on listening, its port looks healthy, and every
question fails until somebody presses *Reload*. Here it ends, and the container's restart policy brings both back.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

LOOK_SECONDS = 1.0
PATIENCE_LOOKS = 3
"""So many looks in a row without a process that has the code; a reload starts the next one before it ends the last."""
EXIT_CODE = 70
log = logging.getLogger("dagster.code_server")


def main(arguments: list[str]) -> None:
    """Serve code as ``dagster code-server start`` does, with its arguments."""
    from dagster._cli.code_server import code_server_cli

    threading.Thread(target=watch, args=(os.getpid(),), name="watch-code", daemon=True).start()
    code_server_cli.main(["start", *arguments], prog_name="code-server")


def watch(parent: int) -> None:
    """End this process once its children are gone, those that there were."""
    seen, missing = False, 0
    while missing < PATIENCE_LOOKS:
        time.sleep(LOOK_SECONDS)
        if children(parent):
            seen, missing = True, 0
        elif seen:
            missing += 1
    log.error("the process that had the code loaded is gone: ending, so that both are started again")
    # Threads of the server would keep a plain exit waiting.
    os._exit(EXIT_CODE)


def children(parent: int) -> list[int]:
    """List the living children of a process; one that ended and wasn't waited for is none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before the last bracket may contain anything.
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended while it was looked at
            continue
        if int(ppid) == parent and state not in "ZX":
            found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
