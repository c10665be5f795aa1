"""The `batos` command."""

from __future__ import annotations

from batos.console.commands import app


def main() -> None:
    """Run the command that was given."""
    app()


if __name__ == "__main__":
    main()
