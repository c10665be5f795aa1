"""DECOMPOSING: BRICK takes the mission apart into a plan."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Ask for a plan until it keeps its covenant, `tries` times at most."""
    problem = ""
    for attempt in range(1, self.tries + 1):
        (answer,) = host.lobby.pLLM_obj.infer_all_(host, [self.plan_prompt_(cycle, host, attempt, problem)])
        plan, problem = self.read_plan_(host, answer.text)
        if not problem:
            host.record("ARTIFACT_GENERATED", artifact="mission_plan", attempt=attempt, plan=plan)
            cycle._tmp_synthesis_data["plan"] = plan
            return "DELEGATING"
        host.record(
            "VALIDATION_FAILURE",
            persona=answer.persona,
            prompt_hash=answer.prompt_hash,
            artifact="mission_plan",
            attempt=attempt,
            errors=[problem],
        )
    return host.fail(
        "plan_invalid", f"{self.persona} gave no valid plan in {self.tries} attempts; the last one: {problem}"
    )


def plan_prompt_(self, cycle, host, attempt, problem):
    """Build the decomposition prompt: the facets, worked examples as earlier turns, then the mission."""
    import json

    schema = host.covenant("mission_plan")
    facets = schema["properties"]["parts"]["items"]["properties"]["facet"]["enum"]
    voice = host.persona(self.persona).codex["voice"]
    turns = [host.turn("system", f"{voice} {self.meta_prompt}\nFacets: {', '.join(facets)}.")]
    for example in host.choose(list(self.examples), self.examples_shown, "examples"):
        plan = {"goal": example["plan"]["goal"], "parts": [dict(part) for part in example["plan"]["parts"]]}
        turns.append(host.turn("user", f"Task: {example['task']}"))
        turns.append(host.turn("assistant", json.dumps(plan)))
    asked = [("mission", f"Task: {cycle._tmp_synthesis_data['brief']}")]
    if problem:
        asked.append(f"Your last answer could not be used: {problem[:200]}. Answer again, in JSON only.")
    turns.append(host.turn("user", *asked))
    return host.prompt(
        self.persona,
        "plan",
        turns,
        self.max_tokens,
        attempt=attempt,
        schema=schema,
        repeat_penalty=self.repeat_penalty,
    )


def read_plan_(self, host, text):
    """Return the plan in an answer and an empty sentence, or None and what is wrong with it.

    Parts that stand twice are taken once, and parts that were copied from a worked example are left out. Where nothing
    else was planned, the first facet is asked for the goal itself.
    """
    plan, problem = host.parsed(text)
    if problem:
        return None, problem
    errors = host.broken("mission_plan", plan)
    if errors:
        return None, "; ".join(errors)
    shown = {part["ask"] for example in self.examples for part in example["plan"]["parts"]}
    parts = []
    for part in plan["parts"]:
        if part not in parts and part["ask"] not in shown:
            parts.append(part)
    if not parts:
        parts = [{"facet": plan["parts"][0]["facet"], "ask": plan["goal"]}]
    return {"goal": plan["goal"], "parts": parts}, ""
