"""The vllm engine, for real: vLLM's CPU build, the packaged model as a folder, adapters made on the spot."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from engine_suite import EngineRestartSuite, EngineSuite, made_adapters

from batos.persona_inference.choice import look, make_engine
from batos.persona_inference.engine import EngineHealth
from batos.persona_inference.packaged_model import find_model
from batos.persona_inference.settings import InferenceSettings
from batos.persona_inference.vllm_engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).resolve().parents[2]
THREADS = 2
SLOTS = 4
CONTEXT_TOKENS = 512
MAX_ADAPTERS = 2
MAX_RANK = 8


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return made_adapters(tmp_path_factory.mktemp("adapters"))


@asynccontextmanager
async def running(home: Path, model_folder: Path, health: list[EngineHealth]) -> AsyncIterator[VllmEngine]:
    settings = InferenceSettings(
        home=home,
        inference_engine="vllm",
        inference_model=model_folder,
        inference_vllm_device="cpu",
        inference_vllm_max_lora_rank=MAX_RANK,
        inference_vllm_args=("--enforce-eager",),
        inference_threads=THREADS,
        inference_slots=SLOTS,
        inference_context_tokens=CONTEXT_TOKENS,
        inference_max_adapters=MAX_ADAPTERS,
    )
    made = make_engine(settings, look(settings))
    assert isinstance(made, VllmEngine)
    try:
        await made.start(health.append)
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    async with running(tmp_path_factory.mktemp("home"), model_folder, []) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
class TestVllm(EngineSuite):
    """The suite over vLLM; one server serves all of it."""

    async def test_its_start_says_how_far_it_is(self, engine: VllmEngine) -> None:
        """The facts are the model folder's, and the model is the one that the folder was made from."""
        gguf = find_model(CHECKOUT / ".venv-inference" / "bin" / "python")
        assert engine.facts.model == gguf.stem
        assert engine.facts.context_tokens == CONTEXT_TOKENS
        assert engine.facts.model_hash != ""


class TestVllmRestart(EngineRestartSuite):
    """Its death: no process of it is left, and it comes back."""

    @pytest.fixture
    def health(self) -> list[EngineHealth]:
        return []

    @pytest_asyncio.fixture
    async def engine(self, model_folder: Path, tmp_path: Path, health: list[EngineHealth]) -> AsyncIterator[VllmEngine]:
        async with running(tmp_path, model_folder, health) as made:
            yield made
        reasons = " ".join(said.reason for said in health)
        assert "loading weights" in reasons or "weights loaded" in reasons

    @pytest.fixture
    def kill(self, engine: VllmEngine) -> Callable[[], None]:
        """Kill the server that the guard keeps; what it had started must go with it."""
        return lambda: os.kill(psutil.Process(engine.pid).children()[0].pid, signal.SIGKILL)


async def test_no_process_outlives_the_vessel(model_folder: Path, tmp_path: Path) -> None:
    """Who starts vLLM and dies at once leaves nothing of it behind."""
    health: list[EngineHealth] = []
    async with running(tmp_path, model_folder, health) as engine:
        guard = psutil.Process(engine.pid)
        below = guard.children(recursive=True)
        assert below
        # A dead vessel's end of the pipe is closed by the kernel; closing it here is the same to the guard.
        assert engine._process is not None
        assert engine._process._guard is not None
        assert engine._process._guard.stdin is not None
        await engine._keeper.stop()
        engine._process._guard.stdin.close()
        gone, alive = await asyncio.to_thread(psutil.wait_procs, [guard, *below], 60)
        assert not alive, alive
        assert gone
