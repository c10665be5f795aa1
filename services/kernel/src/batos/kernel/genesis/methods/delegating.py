"""DELEGATING: the facets that the plan names answer, all at once."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Ask every facet of the plan in parallel and collect the partial answers."""
    data = cycle._tmp_synthesis_data
    prompts = []
    for number, part in enumerate(data["plan"]["parts"], 1):
        persona = host.persona_of(part["facet"])
        facet = getattr(persona, f"{part['facet']}_facet_")
        prompts.append(facet(host, data["brief"], part["ask"], f"facet-{number}"))
    host.record(
        "DELEGATION_START",
        parts=[{"persona": prompt.persona, "facet": prompt.facet, "step": prompt.step} for prompt in prompts],
    )
    answers = host.lobby.pLLM_obj.infer_all_(host, prompts)
    data["partials"] = [
        {"persona": answer.persona, "facet": answer.facet, "text": " ".join(answer.text.split())}
        for answer in answers
        if answer.text.strip()
    ]
    host.record("DELEGATION_COMPLETE", asked=len(answers), answered=len(data["partials"]))
    return "SYNTHESIZING"
