"""What a peer counts, for its vessel's /metrics page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PeerStats:
    """Counts since the process started; they only grow.

    Attributes:
        requests: requests made.
        resent: requests sent again, for whatever reason.
        timeouts: requests given up at their deadline.
        replies_unasked: replies to requests that nobody waits for (any more).
        handled: handlers that ended with a reply.
        failed: handlers that ended with an error reply.
        duplicates: repeated requests that were not executed again.
        undecodable: messages that were none.
        reconnects: times that fresh sockets replaced silent ones.
        events_published: events handed to the bus.
        events_dropped: events refused because too many were waiting for the bus.
        events_missed: gaps seen by subscriptions, in events.
    """

    requests: int = 0
    resent: int = 0
    timeouts: int = 0
    replies_unasked: int = 0
    handled: int = 0
    failed: int = 0
    duplicates: int = 0
    undecodable: int = 0
    reconnects: int = 0
    events_published: int = 0
    events_dropped: int = 0
    events_missed: int = 0
