"""The primordial language model: how the mind asks for words."""

HOST = 2


def infer_(self, host, prompt):
    """Ask one prompt and wait for its answer."""
    (answer,) = self.infer_all_(host, [prompt])
    return answer


def infer_all_(self, host, prompts):
    """Ask several prompts at once and wait for all answers, in the prompts' order."""
    return host.ask(prompts)
