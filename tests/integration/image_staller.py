"""A client that stalls between vote and finish, when the whole image waits for it. Run: image_staller.py URI HOW.

HOW is `stopped` (the process stops itself, as a debugger or a frozen container would) or `waiting` (only the thread
that commits waits, until a line comes in). It says `voted`, then how its commit ended, then how the next one did.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from batos.uvm import Image, UvmError, open_image


class Stall:
    """The last to vote of a transaction's resources."""

    def __init__(self, how: str) -> None:
        self.how = how

    def sortKey(self) -> str:  # noqa: N802 - the transaction's name
        return "~~~"

    def tpc_begin(self, transaction: Any) -> None: ...

    def commit(self, transaction: Any) -> None: ...

    def tpc_vote(self, transaction: Any) -> None:
        del transaction
        say("voted")
        if self.how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            sys.stdin.readline()

    def tpc_finish(self, transaction: Any) -> None: ...

    def tpc_abort(self, transaction: Any) -> None: ...

    def abort(self, transaction: Any) -> None: ...


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def said(image: Image, text: str, stall: Stall | None = None) -> str:
    try:
        with image.transaction(user="staller", note="a slow thought") as root:
            root["lobby"].said = text
            if stall is not None:
                root["lobby"]._p_jar.transaction_manager.get().join(stall)
    except UvmError as error:
        return f"{type(error).__name__}: {error}"
    return "committed"


if __name__ == "__main__":
    with open_image(sys.argv[1]) as image:
        say(said(image, "by the staller", Stall(sys.argv[2])))
        say(said(image, "by the staller, later"))
