#!/usr/bin/env -S python3 -I -S
"""Whether this container's vessel is ready: asks its /readyz, exits 0 or says why not.

Called every few seconds in every container: nothing but the standard library, and of that as little as possible.
"""

import http.client
import os
import sys

WAIT_S = 3.0
OK = 200


def main() -> int:
    """Ask; return the exit code."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("BATOS_METRICS_PORT", "9100")), WAIT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except OSError as error:
        said = f"nobody answers: {error}"
    else:
        if answer.status == OK:
            return 0
    finally:
        connection.close()
    sys.stdout.write(said + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
