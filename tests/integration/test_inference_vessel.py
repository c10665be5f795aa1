"""persona-inference as a process on a real bus, with a real image and the real embedded model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import made_adapter
import psutil
import pytest
from integration.bus_fixtures import BusUnderTest, Peers, make_card

from batos.mind import adapters, archive, create_collections
from batos.persona_inference.model_hash import ModelHashes
from batos.persona_inference.packaged_model import beside, find_model
from batos.protocol import (
    AdapterLoad,
    AdaptersLoaded,
    AdapterUnload,
    ChatMessage,
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    Peer,
    PromptLabel,
    RemoteError,
    Roster,
    RosterGet,
    Sampling,
    TokenDelta,
    Tokenize,
    Tokenized,
    VesselCard,
    new_id,
)
from batos.uvm import UvmObject, open_image

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

NAME = "inference-1"
PATIENCE_S = 90.0


def asked(adapter: str = "", *, label: PromptLabel | None = None, max_tokens: int = 12) -> Infer:
    return Infer(
        messages=(ChatMessage("system", "You answer briefly."), ChatMessage("user", "Name three colours.")),
        sampling=Sampling(temperature=0.0, max_tokens=max_tokens),
        adapter=adapter,
        label=label or PromptLabel(),
    )


@dataclass
class Vessel:
    """The vessel's process, and the adapters that its image holds."""

    process: subprocess.Popen[bytes]
    bound: str
    unbound: str
    corrupt: str

    def child(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found


def fill(home: Path, model_hash: str) -> tuple[str, ...]:
    """Make an image with three adapters: one bound, one not, one whose bytes were changed on disk."""
    blobs = home / "image" / "blobs"
    with open_image(f"file://{home}/image/live_image.fs?blob_dir={blobs}") as image, image.transaction() as root:
        create_collections(root)
        names = tuple(
            adapters.add_candidate(
                root,
                persona_name="BRICK",
                model_hash=model_hash,
                archive=archive.pack(*made_adapter.make(seed)),
                gate={"passed": True},
                dataset_id="",
                dataset_sha256="",
                order_id="",
                training={},
            )
            for seed in (made_adapter.FIRST_SEED, made_adapter.SECOND_SEED, 3)
        )
        root["lobby"].brick_prototype_obj = UvmObject(dna={"version": 1, "adapters": {model_hash: names[0]}})
    spoilt = archive.pack(*made_adapter.make(3))
    (stored,) = [path for path in blobs.rglob("*.blob") if path.read_bytes() == spoilt]
    stored.chmod(0o600)
    stored.write_bytes(spoilt[:-1000] + b"\x01" + spoilt[-999:])
    return names


@pytest.fixture
def vessel(bus: BusUnderTest) -> Iterator[Vessel]:
    home = bus.home
    (home / "image").mkdir()
    gguf = find_model(beside(".venv-inference"))
    names = fill(home, ModelHashes(home).of(gguf))
    settings = {
        "BATOS_NAME": NAME,
        "BATOS_IMAGE_URI": f"file://{home}/image/live_image.fs?blob_dir={home}/image/blobs",
        "BATOS_INFERENCE_ENGINE": "llama",
        "BATOS_INFERENCE_THREADS": "2",
        "BATOS_INFERENCE_CONTEXT_TOKENS": "512",
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "batos.persona_inference"], env=bus.environment | settings, cwd=home
    )
    yield Vessel(process, *names)
    if process.poll() is None:
        process.kill()
        process.wait(20)


async def card_of(peer: Peer, name: str) -> VesselCard | None:
    roster = await peer.request("bus", RosterGet(), Roster, timeout_s=10)
    return next((card for card in roster.vessels if card.name == name), None)


async def until_ready(peer: Peer, *, ready: bool = True) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        card = await card_of(peer, NAME)
        if card is not None and card.ready is ready:
            return
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for ready={ready}: {card}"
        await asyncio.sleep(0.02)


async def refused(peer: Peer, adapter: str) -> str:
    with pytest.raises(RemoteError) as error:
        await peer.request("inference", asked(adapter), Inferred, timeout_s=PATIENCE_S)
    return error.value.code


async def test_prompts_are_answered_by_the_weights_they_name(vessel: Vessel, peers: Peers) -> None:
    """Bound adapters are loaded at the start, others on demand; unknown and corrupt ones are refused, on every path."""
    peer = await peers.join(make_card("kernel-1"))
    await until_ready(peer)
    described = await peer.request("inference", EngineDescribe(), EngineDescription, timeout_s=PATIENCE_S)
    assert (described.engine, described.context_tokens, described.slots) == ("llama", 512, 4)
    assert described.adapters == (vessel.bound,)

    label = PromptLabel(mission_id=new_id(), persona="BRICK")
    async with peer.subscribe(f"mission/{label.mission_id}") as events:
        base = await peer.request("inference", asked(label=label), Inferred, timeout_s=PATIENCE_S)
        streamed = ""
        async with asyncio.timeout(PATIENCE_S):
            async for event in events:
                assert isinstance(event, TokenDelta)
                assert event.label == label
                streamed += event.text
                if streamed == base.text:
                    break
    assert (base.adapter, base.model_hash) == ("", described.model_hash)

    by_bound = await peer.request("inference", asked(vessel.bound), Inferred, timeout_s=PATIENCE_S)
    by_unbound = await peer.request("inference", asked(vessel.unbound), Inferred, timeout_s=PATIENCE_S)
    assert (by_bound.adapter, by_unbound.adapter) == (vessel.bound, vessel.unbound)
    assert len({base.text, by_bound.text, by_unbound.text}) == 3

    assert await refused(peer, "brick-0000000000000000") == "adapter_unknown"
    assert await refused(peer, vessel.corrupt) == "adapter_corrupt"
    loaded = await peer.request(
        f"inference/{NAME}", AdapterUnload(adapter=vessel.unbound), AdaptersLoaded, timeout_s=PATIENCE_S
    )
    assert loaded.adapters == (vessel.bound,)
    loaded = await peer.request(
        f"inference/{NAME}", AdapterLoad(adapter=vessel.unbound), AdaptersLoaded, timeout_s=PATIENCE_S
    )
    assert set(loaded.adapters) == {vessel.bound, vessel.unbound}

    long = await peer.request("inference", Tokenize(texts=("word " * 600,), limits=(5,)), Tokenized, timeout_s=30)
    assert long.counts[0] > 512
    assert long.cut[0].startswith("word word")
    with pytest.raises(RemoteError) as error:
        await peer.request(
            "inference", Infer(messages=(ChatMessage("user", "word " * 600),)), Inferred, timeout_s=PATIENCE_S
        )
    assert error.value.code == "context_exceeded"

    card = await card_of(peer, NAME)
    assert card is not None
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(card.metrics, timeout=10).read().decode())
    for counted in (
        f'batos_inference_requests_total{{adapter="{vessel.bound}",engine="llama",outcome="length"}} 1.0',
        'batos_inference_requests_total{adapter="other",engine="llama",outcome="adapter_corrupt"} 1.0',
        "batos_inference_loaded_adapters 2.0",
        "batos_inference_engine_up 1.0",
    ):
        assert counted in page, page

    vessel.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(vessel.process.wait, 60) == 0


async def test_an_engine_that_dies_takes_no_request_with_it(vessel: Vessel, peers: Peers) -> None:
    """Requests in flight are answered by the engine that comes back; the vessel itself stays."""
    peer = await peers.join(make_card("kernel-1"))
    await until_ready(peer)
    first = vessel.child()
    running = [
        asyncio.create_task(
            peer.request("inference", asked(adapter, max_tokens=24), Inferred, timeout_s=2 * PATIENCE_S)
        )
        for adapter in ("", vessel.bound, "")
    ]
    await asyncio.sleep(0)
    os.kill(first.pid, signal.SIGKILL)
    answers = await asyncio.gather(*running)
    assert [answer.adapter for answer in answers] == ["", vessel.bound, ""]
    assert vessel.process.poll() is None
    assert vessel.child().pid != first.pid
    await until_ready(peer)


async def test_no_engine_outlives_a_killed_vessel(vessel: Vessel, peers: Peers) -> None:
    """`kill -9` of the vessel ends its child, too."""
    peer = await peers.join(make_card("kernel-1"))
    await until_ready(peer)
    child = vessel.child()
    vessel.process.kill()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [child], 30)
    assert gone
    assert not alive


def test_a_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    """Exit code 1, and what to set."""
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BATOS_")},
        "BATOS_HOME": str(tmp_path),
        "BATOS_INFERENCE_ENGINE": "llama",
        "BATOS_INFERENCE_MODEL": str(tmp_path / "none.gguf"),
        "BATOS_IMAGE_URI": f"file://{tmp_path}/live_image.fs",
        **{f"BATOS_BUS_{name}": "ipc:///nowhere" for name in ("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE")},
        "BATOS_BUS_SERVER_KEY": "off",
    }
    done = subprocess.run(
        [sys.executable, "-m", "batos.persona_inference"],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "none.gguf" in done.stderr
    assert "BATOS_INFERENCE_MODEL" in done.stderr
    assert "Traceback" not in done.stderr
