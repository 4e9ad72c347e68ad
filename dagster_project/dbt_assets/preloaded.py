"""A process that has dbt imported and is forked for each call: the import takes two of the three seconds of a call.

Run by dbt's own Python, never imported: it has the standard library and dbt, and nothing of ours. ``process`` is its
client. It takes calls at a Unix socket in the data directory for as long as whoever started it holds its standard input
open; calls under way end by themselves, and are interrupted where their client is gone.

usage: python preloaded.py SOCKET
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 10
"""A client that has connected says so soon what it wants."""
MOST_DESCRIPTORS = 4096


def main() -> int:
    """Take calls until standard input ends, and the last call."""
    path = Path(sys.argv[1])
    # Ctrl-C is for the calls, which have their own handlers; this process ends with its owner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = listen(path)
    mine = path.stat().st_ino
    # Clients that come meanwhile wait in the socket's queue.
    importlib.import_module("dbt.cli.main")
    importlib.import_module("dbt.adapters.postgres")
    gc.freeze()  # what a fork's garbage collection doesn't touch stays shared
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, "call")
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "owner")
    calls: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.data == "call":
                with contextlib.suppress(OSError, ValueError):
                    client, _ = listener.accept()
                    pid, ended = take(client)
                    calls[pid] = client
                    selector.register(ended, selectors.EVENT_READ, ("ended", pid))
                    selector.register(client, selectors.EVENT_READ, ("gone", pid))
            elif key.data == "owner":
                selector.unregister(key.fd)
                selector.unregister(listener)
                listener.close()
                with contextlib.suppress(OSError):
                    if path.stat().st_ino == mine:
                        path.unlink()
            elif key.data[0] == "gone":
                selector.unregister(key.fd)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.data[1], signal.SIGINT)
            else:
                selector.unregister(key.fd)
                os.close(key.fd)
                finish(calls.pop(key.data[1]), key.data[1], selector)
        if not calls and listener.fileno() == -1:
            return 0


def listen(path: Path) -> socket.socket:
    """Open the socket, for this user alone, in the place of one that may have been left there."""
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(staged))
    finally:
        os.umask(before)
    listener.listen(16)
    staged.replace(path)
    return listener


def take(client: socket.socket) -> tuple[int, int]:
    """Fork for one call; give the process and the descriptor that ends with it."""
    try:
        client.settimeout(PATIENCE_SECONDS)
        head, outputs, _, _ = socket.recv_fds(client, 8, 1)
        size, text = int.from_bytes(head), bytearray()
        while len(text) < size:
            more = client.recv(size - len(text))
            if not more:
                raise ValueError("a call that breaks off")
            text += more
        call = json.loads(text)
    except Exception:
        client.close()
        raise
    ended, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.dup2(outputs[0], 1)
            os.dup2(outputs[0], 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            keep = os.dup2(held, 3)
            os.closerange(keep + 1, MOST_DESCRIPTORS)
            code = carry_out(call)
        except BaseException:  # noqa: BLE001 - nothing of a call may get into the loop of its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            atexit._run_exitfuncs()
            os._exit(code)
    os.close(held)
    for output in outputs:
        os.close(output)
    with contextlib.suppress(OSError):
        client.sendall(f"{pid}\n".encode())
    return pid, ended


def carry_out(call: dict[str, Any]) -> int:
    """Do in the forked process what the program ``dbt`` does; give its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    sys.argv = ["dbt", *call["arguments"]]
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", errors="replace") for number in (1, 2))
    runner = importlib.import_module("dbt.cli.main").dbtRunner()
    # Of all the files that dbt writes after a call only the results are read, and the manifest takes half a second.
    outcome = runner.invoke([*call["arguments"], "--no-write-json"])
    if hasattr(outcome.result, "write"):
        outcome.result.write(str(Path(call["results"]) / "run_results.json"))
    if type(outcome.exception).__name__ == "DbtUsageException":
        print(outcome.exception)  # the others are in the log
    return 0 if outcome.success else 2 if outcome.exception is not None else 1


def finish(client: socket.socket, pid: int, selector: selectors.BaseSelector) -> None:
    """Tell a client how its call ended."""
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(KeyError):
        selector.unregister(client)
    with contextlib.suppress(OSError):
        client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    client.close()


if __name__ == "__main__":
    sys.exit(main())
