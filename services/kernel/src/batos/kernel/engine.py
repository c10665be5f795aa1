"""The engine as a cycle's thread sees it: synchronous calls over the bus."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from batos.kernel.errors import Fenced
from batos.kernel.metrics import KernelMetrics
from batos.protocol import (
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    Message,
    Peer,
    RequestTimeout,
    Tokenize,
    Tokenized,
)

SERVICE = "inference"
GRACE_S = 5.0
"""How much longer than a request's own deadline its thread waits for the event loop to say so."""

T = TypeVar("T")
R = TypeVar("R", bound=Message)


class BusEngine:
    """Asks persona-inference for one mission. One for each cycle; its methods belong to the cycle's thread.

    A request is made again by the peer while no engine is there, until its deadline: an engine that is lost in the
    middle of a thought costs time, and only one that does not come back costs the thought.
    """

    def __init__(
        self,
        peer: Peer,
        loop: asyncio.AbstractEventLoop,
        mission_id: str,
        *,
        short_timeout_s: float,
        metrics: KernelMetrics,
    ) -> None:
        """Begin without having asked anything.

        Args:
            peer: this process on the bus.
            loop: the event loop that the peer belongs to.
            mission_id: which mission it asks for.
            short_timeout_s: seconds that counting and describing may take.
            metrics: counts prompts and tokens.
        """
        self._peer = peer
        self._loop = loop
        self._mission_id = mission_id
        self._short_timeout_s = short_timeout_s
        self._metrics = metrics
        self._lock = threading.Lock()
        self._running: concurrent.futures.Future[Any] | None = None
        self._stopped: str = ""

    def infer_all(self, prompts: Sequence[Infer], timeout_s: float) -> list[Inferred]:
        """Ask all prompts at once; see `batos.kernel.ticket.Engine`.

        Raises:
            ProtocolError: one of them has no answer.
            Fenced: the mission was given back meanwhile.
        """
        began = time.monotonic()
        try:
            answers = self._wait(self._infer_all(prompts, timeout_s), "Infer", timeout_s)
        except BaseException:
            self._metrics.prompts.labels("failed").inc(len(prompts))
            raise
        self._metrics.prompt_duration.observe(time.monotonic() - began)
        self._metrics.prompts.labels("answered").inc(len(prompts))
        self._metrics.tokens.labels("prompt").inc(sum(answer.usage.prompt_tokens for answer in answers))
        self._metrics.tokens.labels("completion").inc(sum(answer.usage.completion_tokens for answer in answers))
        return answers

    def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> Tokenized:
        """Count texts and cut them to limits; see `batos.kernel.ticket.Engine`."""
        return self._ask(Tokenize(texts=tuple(texts), limits=tuple(limits)), Tokenized)

    def describe(self) -> EngineDescription:
        """Return which model answers."""
        return self._ask(EngineDescribe(), EngineDescription)

    def interrupt(self, why: str) -> None:
        """Let the thread's call, and every later one, raise `Fenced`: the mission is no longer this kernel's."""
        with self._lock:
            self._stopped = why
            running = self._running
        if running is not None:
            running.cancel()

    def _why(self) -> str:
        with self._lock:
            return self._stopped or "the kernel has ended"

    def _ask(self, body: Message, reply: type[R]) -> R:
        timeout_s = self._short_timeout_s
        return self._wait(
            self._peer.request(SERVICE, body, reply, timeout_s=timeout_s, parent=self._mission_id),
            type(body).__name__,
            timeout_s,
        )

    async def _infer_all(self, prompts: Sequence[Infer], timeout_s: float) -> list[Inferred]:
        tasks = [
            asyncio.ensure_future(
                self._peer.request(SERVICE, prompt, Inferred, timeout_s=timeout_s, parent=self._mission_id)
            )
            for prompt in prompts
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, T], request: str, timeout_s: float) -> T:
        with self._lock:
            if self._stopped:
                work.close()
                raise Fenced(self._mission_id, self._stopped)
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._running = running
        try:
            return running.result(timeout_s + GRACE_S)
        except concurrent.futures.CancelledError:
            raise Fenced(self._mission_id, self._why()) from None
        except TimeoutError:
            running.cancel()
            raise RequestTimeout(SERVICE, request, timeout_s) from None
        finally:
            with self._lock:
                self._running = None
