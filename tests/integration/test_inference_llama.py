"""The embedded engine, for real: llama.cpp in its child process, the packaged model, adapters made on the spot."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_suite import EngineRestartSuite, EngineSuite, made_adapters

from batos.persona_inference.choice import look, make_engine
from batos.persona_inference.engine import EngineHealth
from batos.persona_inference.llama_engine import LlamaEngine
from batos.persona_inference.settings import InferenceSettings

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

THREADS = 2
CONTEXT_TOKENS = 512


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return made_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def health() -> list[EngineHealth]:
    return []


@pytest.fixture
async def engine(tmp_path: Path, health: list[EngineHealth]) -> AsyncIterator[LlamaEngine]:
    settings = InferenceSettings(
        home=tmp_path,
        inference_engine="llama",
        inference_threads=THREADS,
        inference_context_tokens=CONTEXT_TOKENS,
    )
    made = make_engine(settings, look(settings))
    assert isinstance(made, LlamaEngine)
    try:
        await made.start(health.append)
        yield made
    finally:
        await made.stop()


@pytest.fixture
def kill(engine: LlamaEngine) -> Callable[[], None]:
    return lambda: os.kill(engine.pid, signal.SIGKILL)


class TestLlama(EngineSuite):
    """The suite over llama.cpp."""


class TestLlamaRestart(EngineRestartSuite):
    """Its death."""
