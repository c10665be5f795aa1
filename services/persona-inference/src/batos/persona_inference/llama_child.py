"""The process that holds llama.cpp: `python -m batos.persona_inference.llama_child`, driven over its standard streams.

It takes `llama_wire` requests on standard input and ends when that ends. Questions do not come this way: they go to the
loopback addresses of the servers that it builds.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import xllamacpp

from batos.persona_inference.gguf_adapter import ConversionRefused, convert
from batos.persona_inference.llama_wire import Build, Built, Done, Drop, Failed, Reply, Request, Started

LOOPBACK = "127.0.0.1"
HTTP_THREADS_SPARE = 12
"""Threads of a server for what is no decoding, beside one a slot."""
SILENT = -1
"""llama.cpp's verbosity."""


class Child:
    """The servers of this process."""

    def __init__(self) -> None:
        self._servers: dict[int, Any] = {}
        self._next = 1

    def do(self, request: Request) -> Reply:
        """Carry out one request."""
        if isinstance(request, Build):
            return self._build(request)
        if isinstance(request, Drop):
            return self._drop(request)
        convert(Path(request.folder), Path(request.target), Path(request.model))
        return Done()

    def _build(self, request: Build) -> Reply:
        params = xllamacpp.CommonParams()
        params.model.path = request.model
        params.hostnames = [LOOPBACK]
        params.port = 0
        params.api_keys = [request.key]
        params.offline = True
        params.verbosity = SILENT
        params.warmup = False
        params.n_parallel = request.slots
        params.n_ctx = request.slots * request.context_tokens
        params.cont_batching = True
        params.ctx_shift = False
        params.cache_ram_mib = 0
        params.endpoint_metrics = True
        params.n_threads_http = request.slots + HTTP_THREADS_SPARE
        for threads in (params.cpuparams, params.cpuparams_batch):
            threads.n_threads = request.threads
            # Polling threads starve each other, and everybody else, on a busy machine.
            threads.poll = 0
        # Scale 0: an adapter is on only in the questions that name it.
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in request.adapters]
        server = xllamacpp.Server(params)
        number, self._next = self._next, self._next + 1
        self._servers[number] = server
        return Built(server=number, url=str(server.listening_address))

    def _drop(self, request: Drop) -> Reply:
        self._servers.pop(request.server, None)
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        return Done()


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Carry out requests until there are no more."""
    child = Child()
    decoder = msgspec.json.Decoder(Request)

    def say(reply: Reply) -> None:
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()

    say(Started(version=importlib.metadata.version("xllamacpp")))
    for line in requests:
        try:
            reply = child.do(decoder.decode(line))
        except ConversionRefused as error:
            reply = Failed(code=error.code, message=error.message)
        except Exception as error:  # noqa: BLE001 - whatever llama.cpp throws is the answer to this one request
            reply = Failed(code="engine_failed", message=f"{type(error).__name__}: {error}")
        say(reply)


def main() -> None:
    """Keep standard output for replies (llama.cpp prints there too), serve, and end without waiting for servers."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)
    # Deleting a server with a request in flight blocks for a minute; nobody waits for those answers any more.
    os._exit(0)


if __name__ == "__main__":
    main()
