"""A kernel's start: open the image, make sure of the organization, and hear the engine's voice."""

from __future__ import annotations

import asyncio
import threading

from batos import mind
from batos.kernel import missions
from batos.kernel.genesis import AUTHOR, GENESIS_MISSION_ID, GENESIS_MISSION_TEXT, GENESIS_WEAVER, seed
from batos.mind import compatibility
from batos.mind.compatibility import Kernel
from batos.protocol import ChatMessage, Infer, Inferred, Peer, Sampling
from batos.uvm import BatOSUVM, IdentityGuardian, Image, Root

PROBE = Infer(
    messages=(ChatMessage("user", "Say: awake."),), sampling=Sampling(temperature=0.0, max_tokens=4), probe=True
)
"""No mission, and not logged."""
AWAKENING_ATTEMPTS = 50
"""How often an image is filled at most, where several kernels awaken at once."""


def awaken(image: Image, kernel: Kernel) -> None:
    """Fill what is missing in the image, check its covenants, make sure that genesis is a mission, once, and register.

    Raises:
        Incompatible: the image asks for what this kernel does not serve; nothing was changed.
        CovenantBroken: the organization is not whole.
        batos.uvm.UvmError: the image cannot be read or written.
    """
    image.run(lambda root: _fill(root, kernel), user=kernel.name, note="genesis", attempts=AWAKENING_ATTEMPTS)


def _fill(root: Root, kernel: Kernel) -> None:
    compatibility.check(root, kernel)
    seed(root)
    missions.ensure(root)
    if missions.find(root, GENESIS_MISSION_ID) is None:
        missions.create(
            root, mission_id=GENESIS_MISSION_ID, text=GENESIS_MISSION_TEXT, weaver=GENESIS_WEAVER, author=AUTHOR
        )
    IdentityGuardian.check(root)
    mind.keep_organization(root, kernel.name)
    compatibility.register(root, kernel)


async def opened_aside(uri: str) -> BatOSUVM:
    """Open the image in a thread that nobody has to wait for: a kernel that ends meanwhile ends at once.

    Raises:
        batos.uvm.UvmError: it cannot be opened.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[BatOSUVM] = loop.create_future()

    def hand_over(uvm: BatOSUVM | None, error: BaseException | None) -> None:
        if opened.done():
            if uvm is not None:
                uvm.close()
        elif uvm is not None:
            opened.set_result(uvm)
        elif error is not None:
            opened.set_exception(error)

    def work() -> None:
        uvm: BatOSUVM | None = None
        error: BaseException | None = None
        try:
            uvm = BatOSUVM(uri)
        except BaseException as wrong:  # noqa: BLE001 - it is raised where it is waited for
            error = wrong
        if not loop.is_closed():
            loop.call_soon_threadsafe(hand_over, uvm, error)

    threading.Thread(target=work, name="opening", daemon=True).start()
    return await opened


async def probe(peer: Peer, timeout_s: float) -> Inferred:
    """Have the engine answer a short prompt.

    Raises:
        ProtocolError: it does not.
    """
    return await peer.request("inference", PROBE, Inferred, timeout_s=timeout_s)
