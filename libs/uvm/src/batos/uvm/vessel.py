"""The vessel's side of the mind: it holds the image open, and is itself never stored in it."""

from __future__ import annotations

import uuid
from typing import Self

from batos.uvm.image import Image, open_image


class BatOSUVM:
    """The root of a running system.

    What must live on when a vessel is replaced is only where the image is and who the mind is. It can be pickled and
    handed to a successor, which then builds everything else anew. A subclass adds what its own vessel needs by
    extending `_initialize_transient_state` and `close`.

    Args:
        image_uri: where the image is.
        identity: who the mind is; a new one is made up where none is given.

    Attributes:
        image: the open image. Transient.
    """

    image: Image

    def __init__(self, image_uri: str, identity: str | None = None) -> None:
        self.image_uri = image_uri
        self.identity = identity or uuid.uuid4().hex
        self._initialize_transient_state()

    def __getstate__(self) -> dict[str, str]:
        return {"image_uri": self.image_uri, "identity": self.identity}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.image_uri = state["image_uri"]
        self.identity = state["identity"]
        self._initialize_transient_state()

    def _initialize_transient_state(self) -> None:
        """Build anew what does not outlive a vessel: connections, sockets, queues."""
        self.image = open_image(self.image_uri)

    def close(self) -> None:
        """Let go of everything transient. May be called twice."""
        self.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
