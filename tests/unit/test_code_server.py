"""The code server ends when the process that holds the code has died, and not before."""

from __future__ import annotations

import os
import subprocess
import sys

from dagster_project.execution.docker import code_server

PROGRAM = """
import os, subprocess, sys, threading, time
from dagster_project.execution.docker import code_server
code_server.LOOK_SECONDS = 0.05
threading.Thread(target=code_server.watch, args=(os.getpid(),), daemon=True).start()
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
time.sleep(0.4)
print("none yet", flush=True)
first = subprocess.Popen(sleep)
time.sleep(0.2)
second = subprocess.Popen(sleep)
first.kill()
time.sleep(0.4)
print("another one lives", flush=True)
second.kill()
time.sleep(20)
print("still here", flush=True)
"""


def test_it_ends_when_no_process_has_the_code_any_more() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert done.returncode == code_server.EXIT_CODE, done.stderr
    assert done.stdout.splitlines() == ["none yet", "another one lives"]
    assert "ending, so that both are started again" in done.stderr


def test_a_child_that_ended_and_was_not_waited_for_is_none() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in code_server.children(os.getpid())
        child.kill()
        while child.pid in code_server.children(os.getpid()):
            pass
