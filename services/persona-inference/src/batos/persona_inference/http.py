"""Streams of server-sent events from an engine's loopback address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from batos.persona_inference.errors import ContextExceeded, EngineFailed, EngineLost, InferenceError, RequestInvalid

CONNECT_TIMEOUT_S = 10.0
CONTROL_TIMEOUT_S = 60.0
"""For what is no decoding: counting tokens, loading an adapter."""
SHOWN = 400
"""Characters of an engine's own words in an error."""

_DATA = "data:"
_DONE = "[DONE]"
_TOO_LONG = "exceed_context_size_error"


def make_client(base_url: str, *, key: str = "", keep_alive: bool = False) -> httpx.AsyncClient:
    """Return a client for one engine.

    Args:
        base_url: where it listens.
        key: bearer token; empty for none.
        keep_alive: whether connections are used again. On loopback a new one costs nothing, and a server that closes
            an idle one just then fails nobody.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"authorization": f"Bearer {key}"} if key else {},
        # Decoding is bounded by the request's deadline, which cancels it; a silent engine by its keeper.
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None if keep_alive else 0),
        trust_env=False,
    )


@asynccontextmanager
async def faults(what: str) -> AsyncIterator[None]:
    """Turn what httpx raises into this package's errors."""
    try:
        yield
    except (httpx.TransportError, httpx.StreamError) as error:
        raise EngineLost(f"the engine was lost during {what}: {type(error).__name__} {error}".rstrip()) from error
    except msgspec.DecodeError as error:
        raise EngineFailed(f"the engine answered {what} with what is no JSON: {error}") from error


async def ask(client: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Make a short request and return the decoded JSON of its answer.

    Raises:
        InferenceError: as in `refusal`, or EngineLost.
    """
    async with faults(f"{method} {path}"):
        response = await client.request(method, path, json=body, timeout=CONTROL_TIMEOUT_S)
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return msgspec.json.decode(response.content)


async def text(client: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
    """Make a short request and return its answer as text; errors as in `ask`."""
    async with faults(f"{method} {path}"):
        response = await client.request(method, path, json=body, timeout=CONTROL_TIMEOUT_S)
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return response.text


async def events(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Make a streaming request and yield its events; leaving the iteration closes the connection, which frees the slot.

    Raises:
        InferenceError: as in `refusal`, or EngineLost.
    """
    async with faults(f"POST {path}"), client.stream("POST", path, json=body) as response:
        if response.is_error:
            raise refusal(response.status_code, await response.aread())
        async for line in response.aiter_lines():
            name, _, rest = line.partition(":")
            if name not in {"data", "error"} or rest.strip() == _DONE:
                continue
            event = msgspec.json.decode(rest)
            if name == "error" or "error" in event:
                raise refusal(_code(rest.encode()), rest.encode())
            yield event


def refusal(status: int, content: bytes) -> InferenceError:
    """Return the error that an engine's refusal means."""
    fault = _fault(content)
    words = str(fault.get("message", "")) or content.decode(errors="replace")
    if fault.get("type") == _TOO_LONG:
        return ContextExceeded(int(fault.get("n_prompt_tokens", 0)), int(fault.get("n_ctx", 0)))
    if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
        return EngineLost(f"the engine is not ready: {words[:SHOWN]}", "it is tried again")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return EngineFailed(f"the engine refuses the key: {words[:SHOWN]}", "set BATOS_INFERENCE_OPENAI_KEY")
    if httpx.codes.is_client_error(status):
        return RequestInvalid("request_refused", f"the engine refused the request: {words[:SHOWN]}")
    return EngineFailed(f"the engine failed with status {status}: {words[:SHOWN]}", "its log says more")


def _code(content: bytes) -> int:
    """Return the status that an error within a stream names."""
    code = _fault(content).get("code")
    return code if isinstance(code, int) else httpx.codes.INTERNAL_SERVER_ERROR


def _fault(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return {}
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {"message": str(inner)}
