"""IDLE: the thought begins."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Open the thought's scratch data with the mission's brief in it."""
    text = host.mission_text.strip()
    if not text:
        host.fail("mission_empty", "the mission has no text", "say what is to be done")
    weaver = host.weaver or host.state("SYNTHESIZING").persona
    host.persona(weaver)
    cycle._tmp_synthesis_data = {"brief": text, "weaver": weaver, "plan": None, "partials": []}
    return "DECOMPOSING"
