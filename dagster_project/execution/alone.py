"""Takes the process that steps are forked from out of the terminal's foreground, and with it every step.

Imported by that process alone, as the first of what it preloads. Ctrl-C then reaches `bindery run` and nothing else; it
tells the steps to end in order. Otherwise a dozen processes would each print where they were interrupted.
"""

from __future__ import annotations

import os
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    os.setpgid(0, 0)
