"""Requests for which nobody is free yet: first come, first served, bounded in number and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Waiting:
    """One request that waits.

    Attributes:
        id: of the request.
        service: whom it is for.
        requesters: incarnations that ask.
        frames: type frame, header and body as they came.
        expires: monotonic seconds of its deadline.
        not_before: monotonic seconds before which it is given to nobody.
        order: counts arrivals over all services.
    """

    id: str
    service: str
    requesters: tuple[str, ...]
    frames: list[bytes]
    expires: float
    not_before: float
    order: int

    @property
    def size(self) -> int:
        """Bytes of its frames."""
        return sum(map(len, self.frames))


class WaitingRoom:
    """Queues by service."""

    def __init__(self, *, per_service: int, size: int, services: int) -> None:
        """Begin empty.

        Args:
            per_service: requests that may wait for one service.
            size: bytes that all of them may take.
            services: names that may be waited for at a time.
        """
        self._per_service = per_service
        self._size_limit = size
        self._services_limit = services
        self._size = 0
        self._queues: dict[str, OrderedDict[str, Waiting]] = {}
        self._service_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._service_of)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._service_of

    def __iter__(self) -> Iterator[Waiting]:
        return iter([request for queue in self._queues.values() for request in queue.values()])

    def add(self, request: Waiting) -> bool:
        """Put a request at the end of its queue; False where there is no room."""
        queue = self._queues.get(request.service)
        if queue is None:
            if len(self._queues) >= self._services_limit:
                return False
            queue = self._queues[request.service] = OrderedDict()
        if len(queue) >= self._per_service or self._size + request.size > self._size_limit:
            if not queue:
                del self._queues[request.service]
            return False
        queue[request.id] = request
        self._service_of[request.id] = request.service
        self._size += request.size
        return True

    def first(self, service: str) -> Waiting | None:
        """Return the request that has waited longest for a service."""
        queue = self._queues.get(service)
        return next(iter(queue.values())) if queue else None

    def get(self, request_id: str) -> Waiting | None:
        """Return a request that waits."""
        service = self._service_of.get(request_id)
        return None if service is None else self._queues[service][request_id]

    def remove(self, request_id: str) -> Waiting | None:
        """Take a request out, wherever it waits."""
        service = self._service_of.pop(request_id, None)
        if service is None:
            return None
        queue = self._queues[service]
        request = queue.pop(request_id)
        if not queue:
            del self._queues[service]
        self._size -= request.size
        return request

    def services(self) -> list[str]:
        """Services that are waited for."""
        return list(self._queues)

    def lengths(self) -> dict[str, int]:
        """How many requests wait for each service."""
        return {service: len(queue) for service, queue in self._queues.copy().items()}
