"""ALFRED's pillars, each a facet that can be asked."""

HOST = 2


def pragmatist_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the pragmatist, who takes the simplest way."""
    return self.facet_prompt_(host, "pragmatist", mission, ask, step)


def disruptor_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the disruptor, who doubts what everybody assumes."""
    return self.facet_prompt_(host, "disruptor", mission, ask, step)


def butler_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the butler, who oversees the execution."""
    return self.facet_prompt_(host, "butler", mission, ask, step)
