"""VALIDATING: ALFRED holds the answer against its covenant."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Check the draft; have it woven again where it breaks its covenant, `tries` drafts at most."""
    errors = []
    for attempt in range(1, self.tries + 1):
        if errors:
            host.state("SYNTHESIZING").weave_(cycle, host, attempt, errors[0])
        text, answer = host.draft
        host.record("VALIDATION_ATTEMPT", persona=self.persona, artifact="answer", attempt=attempt)
        errors = self.errors_of_(cycle, host, text)
        if not errors:
            host.record("VALIDATION_SUCCESS", persona=self.persona, artifact="answer", attempt=attempt)
            return "COMPLETE"
        host.record(
            "VALIDATION_FAILURE",
            persona=self.persona,
            prompt_hash=answer.prompt_hash,
            artifact="answer",
            attempt=attempt,
            errors=errors,
        )
    return host.fail(
        "answer_invalid", f"none of {self.tries} drafts kept the answer's covenant; the last one: {errors[0]}"
    )


def errors_of_(self, cycle, host, text):
    """Return in which ways a draft is no answer, one sentence each; nothing where it is one."""
    errors = host.broken("answer", {"text": text})
    if not any(sign.isalnum() for sign in text):
        errors.append("it says nothing")
    if "<|im_" in text:
        errors.append("it holds marks of the chat template")
    data = cycle._tmp_synthesis_data
    said = " ".join(text.lower().split())
    for name, asked in (("the mission", data["brief"]), ("the plan's goal", data["plan"]["goal"])):
        words = asked.lower().split()
        if len(words) > self.echo_words and said == " ".join(words):
            errors.append(f"it only repeats {name}")
    return errors
