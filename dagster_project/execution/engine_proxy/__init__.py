"""A filtering proxy in front of Docker's socket: what a run may ask of the engine, and nothing else.

Who reaches the engine's socket is root on the host. Here stand the few requests that launching, watching and ending
our own containers takes; everything else is refused, by rule and in words. Standard library only, nothing of the
platform imported, so that the container that holds the socket runs as little as possible:

    messages.py  HTTP as strictly as it can be read     policy.py  which requests there are, by port
    body.py      what a new container may be            server.py  sockets, limits, asking the engine whose what is
"""

from __future__ import annotations
