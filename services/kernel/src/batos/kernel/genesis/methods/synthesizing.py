"""SYNTHESIZING: the weaver makes one answer of the partial ones."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Weave the first draft."""
    self.weave_(cycle, host, 1, "")
    return "VALIDATING"


def weave_(self, cycle, host, attempt, problem):
    """Ask the weaver for a draft and propose it; the earlier draft's problem is told where there was one."""
    data = cycle._tmp_synthesis_data
    weaver = host.persona(data["weaver"])
    said = [f"{weaver.codex['voice']} {self.meta_prompt}"]
    said += [("partial", f"- {partial['text']}") for partial in data["partials"]]
    asked = [("mission", data["brief"])]
    if problem:
        asked.append(f"(Your last answer could not be used: {problem[:200]}. Answer in other words.)")
    prompt = host.prompt(
        data["weaver"],
        "weave",
        [host.turn("system", *said), host.turn("user", *asked)],
        self.max_tokens,
        attempt=attempt,
        repeat_penalty=self.repeat_penalty,
    )
    (answer,) = host.lobby.pLLM_obj.infer_all_(host, [prompt])
    text = self.finished_(answer)
    host.record("ARTIFACT_GENERATED", persona=answer.persona, artifact="answer", attempt=attempt, chars=len(text))
    host.propose(text, answer)


def finished_(self, answer):
    """Return an answer's text; one that was cut at its bound ends with its last whole sentence, if it has one."""
    text = answer.text.strip()
    if answer.finish_reason != "length":
        return text
    ends = max(text.rfind(mark) for mark in (". ", "! ", "? ", ".\n", "!\n", "?\n"))
    return text[: ends + 1] if ends > len(text) // 2 else text
