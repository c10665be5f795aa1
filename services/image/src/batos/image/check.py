"""`python -m batos.image.check`: whether the image of this vessel's settings answers a client, over ZEO itself.

Exit codes: 0 it does; 1 it does not, one line says why; 2 bad settings.
"""

from __future__ import annotations

import sys

from ZEO.Exceptions import ClientDisconnected

from batos.image.address import WAIT_S, own_uri
from batos.image.settings import ImageSettings
from batos.uvm import UvmError
from batos.uvm.addresses import resolve
from batos.vessel import EXIT_DONE, EXIT_FAILED, EXIT_SETTINGS, SettingsError, load_settings


def ask(uri: str) -> None:
    """Ask a server for its newest transaction.

    Raises:
        UvmError: the address or the certificates cannot be used.
        ClientDisconnected: nobody answers, or this client is not admitted.
    """
    address = resolve(uri)
    try:
        storage = address.open_storage(True)
        try:
            storage.sync()
        finally:
            storage.close()
    finally:
        address.release()


def main() -> int:
    """Ask; return the exit code."""
    try:
        uri = own_uri(load_settings(ImageSettings))
    except SettingsError as error:
        sys.stderr.write(f"batos image check: {error}\n")
        return EXIT_SETTINGS
    try:
        ask(uri)
    except ClientDisconnected:
        sys.stderr.write(f"batos image check: nobody answers at {uri} within {WAIT_S} s\n")
        return EXIT_FAILED
    except UvmError as error:
        sys.stderr.write(f"batos image check: {error}\n")
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
