"""A process that has dbt imported and the project read, and is forked for each call: both take most of a call's time.

Run by dbt's own Python, never imported: it has the standard library and dbt, and nothing of ours. ``process`` is its
client. It takes calls at a Unix socket in the data directory for as long as whoever started it holds its standard input
open; calls under way end by themselves, and are interrupted where their client is gone.

usage: python preloaded.py SOCKET [--listening DESCRIPTOR] [ARGUMENT_OF_DBT_PARSE...]
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
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 10
"""A client that has connected says so soon what it wants."""
CONNECTION = ("BINDERY_DBT_", "DBT_")
"""Beginnings of the names of variables that what was read depends on."""


def main() -> int:
    """Take calls until standard input ends, and the last call."""
    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    # Ctrl-C is for the calls, which have their own handlers; this process ends with its owner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    again = arguments[:1] == ["--listening"]
    listener = socket.socket(fileno=int(arguments[1])) if again else listen(path)
    arguments = arguments[2:] if again else arguments
    mine = path.stat().st_ino
    # Clients that come meanwhile wait in the socket's queue.
    manifest = read_project(arguments)
    if len(tasks()) > 1:
        # dbt has read files, not what it kept of them, with a library that has threads of its own. A fork would wait
        # for them for ever; so once more, with what it keeps now, or the second time with nothing read at all.
        listener.set_inheritable(True)
        again_with = ["--listening", str(listener.fileno()), *([] if again else arguments)]
        os.execv(sys.executable, [sys.executable, "-P", __file__, str(path), *again_with])  # noqa: S606 - ourselves
    where = connection(os.environ), str(Path.cwd())
    gc.freeze()  # what a fork's garbage collection doesn't touch stays shared
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, ("call", 0))
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, ("owner", 0))
    calls: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            kind, pid = key.data
            if kind == "call":
                with contextlib.suppress(OSError, ValueError):
                    client, _ = listener.accept()
                    call, output = hear(client)
                    others = [client.fileno(), *(each.fd for each in selector.get_map().values())]
                    same = where == (connection(call["environment"]), call["folder"])
                    pid, ended = fork(call, output, manifest if same else None, others)
                    calls[pid] = client
                    selector.register(ended, selectors.EVENT_READ, ("ended", pid))
                    selector.register(client, selectors.EVENT_READ, ("gone", pid))
                    client.sendall(f"{pid}\n".encode())
            elif kind == "owner":
                selector.unregister(key.fd)
                selector.unregister(listener)
                listener.close()
                with contextlib.suppress(OSError):
                    if path.stat().st_ino == mine:
                        path.unlink()
            elif kind == "gone" and pid in calls:  # else both its ends came at once
                selector.unregister(key.fd)
                os.kill(pid, signal.SIGINT)
            elif kind == "ended":
                selector.unregister(key.fd)
                os.close(key.fd)
                finish(calls.pop(pid), pid, selector)
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


def read_project(arguments: list[str]) -> Any:
    """Import dbt and let it read the project; give its manifest, or None where it can't be read.

    Besides the manifest it leaves in memory the code that dbt generates for each of its classes when first used.
    """
    runner = importlib.import_module("dbt.cli.main").dbtRunner()
    importlib.import_module("dbt.adapters.postgres")
    if not arguments:
        return None
    outcome = runner.invoke(arguments)
    return outcome.result if outcome.success else None


def tasks() -> list[str]:
    """List the threads of this process, also those that Python doesn't know, where the system tells."""
    with contextlib.suppress(OSError):
        return [task.name for task in Path("/proc/self/task").iterdir()]
    return [thread.name for thread in threading.enumerate()]


def connection(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what of an environment the reading of a project depends on."""
    return {name: value for name, value in environment.items() if name.startswith(CONNECTION)}


def hear(client: socket.socket) -> tuple[dict[str, Any], int]:
    """Take a client's call, and the descriptor where its output goes."""
    handles: list[int] = []
    try:
        client.settimeout(PATIENCE_SECONDS)
        head, handles, _, _ = socket.recv_fds(client, 8, 1)
        size, text = int.from_bytes(head), bytearray()
        while len(text) < size:
            more = client.recv(size - len(text))
            if not more:
                raise ValueError("a call that breaks off")
            text += more
        call: dict[str, Any] = json.loads(text)
        return call, handles[0]
    except (OSError, ValueError, IndexError) as error:
        client.close()
        for handle in handles:
            os.close(handle)
        raise ValueError("no call") from error


def fork(call: dict[str, Any], output: int, manifest: Any, others: list[int]) -> tuple[int, int]:
    """Fork for a call; give the process, and the descriptor that ends with it. ``others`` are the parent's alone."""
    ended, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            # No connection of the parent's may stay open here. (What multiprocessing has open has to.)
            for other in (*others, ended):
                os.close(other)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            code = carry_out(call, manifest)
        except BaseException:  # noqa: BLE001 - nothing of a call may get into the loop of its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            atexit._run_exitfuncs()
            os._exit(code)
    os.close(held)
    os.close(output)
    return pid, ended


def carry_out(call: dict[str, Any], manifest: Any) -> int:
    """Do in the forked process what the program ``dbt`` does; give its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    sys.argv = ["dbt", *call["arguments"]]
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", errors="replace") for number in (1, 2))
    runner = importlib.import_module("dbt.cli.main").dbtRunner(manifest)
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
