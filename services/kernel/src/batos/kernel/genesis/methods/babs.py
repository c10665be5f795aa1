"""BABS's pillars, each a facet that can be asked."""

HOST = 2


def tech_bat_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the joyful technician, who analyses precisely."""
    return self.facet_prompt_(host, "tech_bat", mission, ask, step)


def iceman_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the cool pilot, who plans a flawless run."""
    return self.facet_prompt_(host, "iceman", mission, ask, step)


def hitchhiker_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the hitchhiker, who sees what lies beside the question."""
    return self.facet_prompt_(host, "hitchhiker", mission, ask, step)
