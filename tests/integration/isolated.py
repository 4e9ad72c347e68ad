"""Runs a command that can reach this machine only, and notes every attempt to reach another.

Two fences. A network namespace of its own with nothing but loopback, where the kernel lets us make one: nothing gets
out of it, whatever the program is written in. And inside every Python process a guard, put in by ``sitecustomize``,
that refuses and writes down each name looked up and each address connected to: libraries swallow their failed
telemetry, the log does not. One port of this machine may stay within reach, for a server that runs outside.

usage: python -m tests.integration.isolated LOG PORT|- COMMAND...
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
PR_SET_PDEATHSIG = 1
SIGKILL = 9

GUARD = """
import os, socket, sys

LOG = {log!r}
HERE = {{"localhost", "::1", "0.0.0.0", "::", "", None, socket.gethostname()}}


def note(kind, what):
    line = "%s\\t%d\\t%s\\t%s\\n" % (kind, os.getpid(), " ".join(getattr(sys, "orig_argv", sys.argv))[:200], what)
    handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(handle, line.encode())
    os.close(handle)


def check(host):
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE and not str(host).startswith("127."):
        note("refused", host)
        raise OSError("the network ends at this machine: " + str(host))


def guarded(name):
    original = getattr(socket.socket, name)

    def call(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(arguments[-1], tuple):
            check(arguments[-1][0])
        return original(self, *arguments)

    setattr(socket.socket, name, call)


for method in ("connect", "connect_ex", "sendto"):
    guarded(method)
look_up = socket.getaddrinfo


def guarded_look_up(host, *arguments, **more):
    check(host)
    return look_up(host, *arguments, **more)


socket.getaddrinfo = guarded_look_up
note("guarded", "")
"""


def enter_own_network() -> bool:
    """Leave this machine's network for one that has only loopback; tell whether the kernel allowed it."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    # Root keeps its users, because the embedded Postgres gives up root by becoming another one.
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return False
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True


def keep_door(near: socket.socket, port: int) -> None:
    """Pass on what comes to a port inside of the fence, to the same port outside; ends with the parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    _, handles, _, _ = socket.recv_fds(near, 1, 1)
    if not handles:
        return
    listener = socket.socket(fileno=handles[0])
    while True:
        inside, _ = listener.accept()
        outside = socket.create_connection(("127.0.0.1", port))
        for source, target in ((inside, outside), (outside, inside)):
            threading.Thread(target=pass_on, args=(source, target), daemon=True).start()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main() -> None:
    """Fence this process in and become the command."""
    log, door, *command = sys.argv[1:]
    # A socket belongs to the network that it was made in: this one's child stays outside, and is handed the inner one.
    near, far = socket.socketpair()
    if door != "-" and os.fork() == 0:
        far.close()
        keep_door(near, int(door))
        os._exit(0)
    near.close()
    Path(log).touch(mode=0o666)
    Path(log).chmod(0o666)  # servers that have given up root write here too
    folder = Path(tempfile.mkdtemp(prefix="bindery-guard-"))
    folder.chmod(0o755)
    (folder / "sitecustomize.py").write_text(GUARD.format(log=log))
    entered = enter_own_network()
    if entered and door != "-":
        with socket.create_server(("127.0.0.1", int(door)), backlog=64) as listener:
            socket.send_fds(far, [b"x"], [listener.fileno()])
    far.close()
    kernel = "kernel and guard" if entered else "guard alone"
    with Path(log).open("a") as handle:
        handle.write(f"fence\t{os.getpid()}\t{kernel}\t\n")
    os.execvpe(command[0], command, {**os.environ, "PYTHONPATH": str(folder)})


if __name__ == "__main__":
    main()
