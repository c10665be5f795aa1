"""Ports for those who listen, out of the way of those who connect.

The system gives every outgoing connection a port of its own out of one range, and gives a listener that asks for any
port one of the same. A fleet cannot live on those: between the choice of a port and its binding, and whenever a
listener is replaced, somebody's connection may take it; a client that tries to reach it again and again can even meet
itself there, as TCP lets both ends of a connection open it at once (RFC 9293, 3.5). So listeners get ports below it.
"""

from __future__ import annotations

import errno
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 29_999
"""Below what Linux (32768) and IANA (49152) give to connections, and below the node ports of Kubernetes (30000)."""
CONNECTING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int, *, host: str = LOOPBACK, connecting: Path = CONNECTING) -> list[int]:
    """Return ports that were free a moment ago, all different, and that no outgoing connection is given.

    Args:
        count: how many.
        host: the address that will listen.
        connecting: where Linux says which ports connections are given. Where they leave too little below them, the
            ports are of those.

    Raises:
        OSError: there are not that many.
    """
    span = _below(connecting)
    tried = SystemRandom().sample(span, len(span)) if len(span) >= count else []
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            number = tried.pop() if tried else 0
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                probe.bind((host, number))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not number:
                    raise
                probe.close()
            else:
                found.append(int(probe.getsockname()[1]))
        return found


def _below(connecting: Path) -> range:
    """Return those of our ports that lie below the range of a system, which is Linux's own where it says none."""
    try:
        said = re.findall(r"\d+", connecting.read_text())
    except OSError:
        said = []
    return range(FIRST, min(LAST + 1, int(said[0])) if said else LAST + 1)
