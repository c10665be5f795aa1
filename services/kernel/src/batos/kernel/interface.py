"""What this release serves its live methods, and which images it understands.

A version of the host interface only adds to the one before; what it takes away is served for one version more. So a
kernel serves its own version and the one before, by one and the same host.
"""

from batos.mind.compatibility import Span

HOST = Span(oldest=1, newest=2)
"""2 added `Host.note` and `Host.noted`."""
IMAGE = Span(oldest=1, newest=2)
