"""The child process that holds llama.cpp, as the vessel sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from batos.persona_inference.errors import AdapterRefused, EngineFailed, EngineLost
from batos.persona_inference.llama_wire import Build, Built, Convert, Done, Drop, Failed, Reply, Request, Started
from batos.vessel import tethered

MODULE = "batos.persona_inference.llama_child"
START_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 300.0
"""How long a build, a conversion or a drop may take; a large model on a slow disk is the longest."""
STOP_TIMEOUT_S = 5.0


class LlamaProcess:
    """One child. Its requests are made one after another."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        """Begin without a process.

        Args:
            python: interpreter of an environment with llama.cpp and this package.
            environment: variables that the child has beside the vessel's own.
        """
        self._python = python
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
        self.version = ""

    @property
    def pid(self) -> int:
        """Process id; 0 before `start`."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process and wait until it takes requests.

        Raises:
            EngineFailed: it cannot be started.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *tethered([str(self._python), "-m", MODULE]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **self._environment},
            )
        except OSError as error:
            raise EngineFailed(f"{sys.executable} cannot start {self._python}: {error.strerror}") from error
        try:
            reply = await self._read(START_TIMEOUT_S, "to start")
        except EngineLost as error:
            raise EngineFailed(
                f"llama.cpp's process ({self._python} -m {MODULE}) did not start: {error.message}",
                "its last words stand above; make its environment with `make install`",
            ) from error
        if isinstance(reply, Started):
            self.version = reply.version

    async def build(self, request: Build) -> Built:
        """Start a server.

        Raises:
            EngineFailed: llama.cpp refuses the model or an adapter (it does not say why).
            EngineLost: the child died.
        """
        reply = await self._ask(request)
        if isinstance(reply, Built):
            return reply
        detail = reply.message if isinstance(reply, Failed) else type(reply).__name__
        raise EngineFailed(f"llama.cpp cannot serve {request.model} with {len(request.adapters)} adapters: {detail}")

    async def drop(self, server: int) -> None:
        """End a server that has nothing in flight."""
        await self._ask(Drop(server=server))

    async def convert(self, adapter: str, request: Convert) -> None:
        """Write an adapter as GGUF.

        Raises:
            AdapterRefused: it is none that llama.cpp could serve.
            EngineLost: the child died.
        """
        reply = await self._ask(request)
        if isinstance(reply, Failed):
            raise AdapterRefused(reply.code, adapter, f"adapter {adapter}: {reply.message}")
        if not isinstance(reply, Done):
            raise EngineFailed(f"llama.cpp's process answered a conversion with {type(reply).__name__}")

    async def wait(self) -> int:
        """Wait until the process ends; return its exit code, negative for a signal."""
        if self._process is None:
            return 0
        return await self._process.wait()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End it in order, or by force where it does not end."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self.kill()
            await process.wait()

    async def _ask(self, request: Request) -> Reply:
        process = self._process
        if process is None or process.stdin is None:
            raise EngineLost("llama.cpp's process has not been started")
        what = f"to {type(request).__name__}"
        async with self._turn:
            # A reply that nobody waited for would be taken for the next one: so the exchange is finished in any case.
            exchange = asyncio.ensure_future(self._exchange(process.stdin, request, what))
            try:
                return await asyncio.shield(exchange)
            except asyncio.CancelledError:
                await asyncio.wait({exchange})
                if not exchange.cancelled():
                    exchange.exception()
                raise

    async def _exchange(self, stdin: asyncio.StreamWriter, request: Request, what: str) -> Reply:
        try:
            stdin.write(msgspec.json.encode(request) + b"\n")
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise EngineLost(f"llama.cpp's process ended: {type(error).__name__}") from error
        return await self._read(REPLY_TIMEOUT_S, what)

    async def _read(self, timeout_s: float, what: str) -> Reply:
        process = self._process
        if process is None or process.stdout is None:
            raise EngineLost("llama.cpp's process has not been started")
        try:
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
        except TimeoutError:
            self.kill()
            raise EngineLost(f"llama.cpp's process took longer than {timeout_s:g} s {what}") from None
        if not line:
            raise EngineLost(f"llama.cpp's process ended while it was asked {what}")
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            self.kill()
            raise EngineLost(f"llama.cpp's process said what is no reply: {error}") from error
