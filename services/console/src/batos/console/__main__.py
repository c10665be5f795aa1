"""The `batos` command."""

from __future__ import annotations

import os

from batos.console.commands import app
from batos.vessel import PRIVATE_UMASK


def main() -> None:
    """Run the command that was given; what it and the processes that it starts write is this user's alone."""
    os.umask(PRIVATE_UMASK)
    app()


if __name__ == "__main__":
    main()
