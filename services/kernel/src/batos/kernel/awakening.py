"""A kernel's start: open the image, make sure of the organization, and hear the engine's voice."""

from __future__ import annotations

from typing import Any

from batos.kernel import missions
from batos.kernel.genesis import AUTHOR, GENESIS_MISSION_ID, GENESIS_MISSION_TEXT, GENESIS_WEAVER, seed
from batos.protocol import ChatMessage, Infer, Inferred, Peer, Sampling
from batos.uvm import IdentityGuardian, Image

PROBE = Infer(
    messages=(ChatMessage("user", "Say: awake."),), sampling=Sampling(temperature=0.0, max_tokens=4), probe=True
)
"""No mission, and not logged."""
INTACT_ATTEMPTS = 50


def awaken(image: Image, kernel: str) -> None:
    """Fill what is missing in the image, check its covenants, and make sure that genesis is a mission, once.

    Raises:
        CovenantBroken: the organization is not whole.
        batos.uvm.UvmError: the image cannot be read or written.
    """
    with image.snapshot() as root:
        if is_whole(root):
            return
    image.run(_fill, user=kernel, note="genesis", attempts=INTACT_ATTEMPTS)


def is_whole(root: Any) -> bool:
    """Say whether an image needs nothing more; what it has is checked.

    Raises:
        CovenantBroken: it was whole once, and is no more.
    """
    if missions.find(root, GENESIS_MISSION_ID) is None:
        return False
    IdentityGuardian.check(root)
    return True


def _fill(root: Any) -> None:
    seed(root)
    missions.ensure(root)
    missions.create(
        root, mission_id=GENESIS_MISSION_ID, text=GENESIS_MISSION_TEXT, weaver=GENESIS_WEAVER, author=AUTHOR
    )
    IdentityGuardian.check(root)


async def probe(peer: Peer, timeout_s: float) -> Inferred:
    """Have the engine answer a short prompt.

    Raises:
        ProtocolError: it does not.
    """
    return await peer.request("inference", PROBE, Inferred, timeout_s=timeout_s)
