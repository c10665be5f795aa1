"""What may go wrong between a prompt and its answer."""

# ruff: noqa: N818 - errors are named for what happened

from __future__ import annotations


class InferenceError(Exception):
    """The root of all errors of this package. Not worth another try unless it is a `Transient`.

    Attributes:
        code: stable, for programs, for example `adapter_unknown`.
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Transient(InferenceError):
    """The same request may succeed if it is made again."""


class EngineLost(Transient):
    """The engine ended, or is not up yet, while somebody wanted an answer from it."""

    def __init__(self, message: str, hint: str = "it is started again by itself") -> None:
        super().__init__("engine_lost", message, hint)


class EngineBusy(Transient):
    """More requests wait than the queue holds.

    Attributes:
        waiting: how many wait.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(
            "engine_busy", f"{waiting} requests wait already", "try again later, or start another persona-inference"
        )
        self.waiting = waiting


class EngineFailed(InferenceError):
    """The engine cannot be started, or does not do what it must; its log says more."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("engine_failed", message, hint)


class ContextExceeded(InferenceError):
    """A prompt that does not fit.

    Attributes:
        prompt_tokens: what the prompt has.
        context_tokens: what one request may use.
    """

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            "context_exceeded",
            f"the prompt has {prompt_tokens} tokens, one request may use {context_tokens}, its answer included",
            "shorten the prompt: Tokenize counts and cuts by the model's own tokenizer",
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class AdapterNotLoaded(InferenceError):
    """The engine was asked for an adapter that it does not have.

    Attributes:
        adapter: the name that was asked for.
    """

    def __init__(self, adapter: str) -> None:
        super().__init__("adapter_not_loaded", f"adapter {adapter!r} is not loaded in this engine", "load it first")
        self.adapter = adapter


class AdapterRefused(InferenceError):
    """An adapter that cannot be served.

    Its code is `adapter_unknown`, `adapter_corrupt`, `adapter_foreign` (another base model's) or `adapter_unsupported`.

    Attributes:
        adapter: its name.
    """

    def __init__(self, code: str, adapter: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.adapter = adapter


class RequestInvalid(InferenceError):
    """A request that no engine is asked, because it has no right answer."""


class WrongWeights(InferenceError):
    """The engine reports other weights than those that were asked for: its answer is thrown away.

    Attributes:
        wanted: the adapter that was asked for; empty for the base.
        reported: what the engine says it used.
    """

    def __init__(self, wanted: str, reported: str) -> None:
        super().__init__(
            "wrong_weights",
            f"asked for {wanted or 'the base model'}, the engine reports {reported or 'the base model'}",
            "report this: it must never happen",
        )
        self.wanted = wanted
        self.reported = reported
