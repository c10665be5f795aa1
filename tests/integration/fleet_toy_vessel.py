"""A vessel that does next to nothing, as `toy-1` and `toy-2` of a small fleet of tests. Run as a script.

It answers `PersonaGet` with its incarnation. Files in the home change its ways: `toy-broken` makes a start fail,
`toy-unready` keeps it from getting ready, `toy-slow` makes an answer wait until the file is gone.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

from batos.protocol import PersonaGet, PersonaView, RequestContext
from batos.vessel import StartFailed, Vessel, VesselSettings, run


class ToyVessel(Vessel):
    kind: ClassVar[str] = "toy"

    async def start(self) -> None:
        home = self.settings.home
        if (home / "toy-broken").exists():
            raise StartFailed("toy_broken", "the toy is broken", "remove the file toy-broken")
        self.peer.serve(["toy", f"toy/{self.name}"], {PersonaGet: self._answer}, capacity=4)
        if (home / "toy-unready").exists():
            self.set_ready(False, "waiting for the file toy-unready to go")
        else:
            self.set_ready(True)

    async def _answer(self, message: PersonaGet, context: RequestContext) -> PersonaView:
        del context
        while (self.settings.home / "toy-slow").exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
        return PersonaView(name=message.persona, dna={}, codex={}, pillars={}, ancestor=self.incarnation)


if __name__ == "__main__":
    sys.exit(run(ToyVessel, VesselSettings))
