"""BRICK's pillars, each a facet that can be asked."""

HOST = 2


def tamland_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the literalist, who states the plain parts."""
    return self.facet_prompt_(host, "tamland", mission, ask, step)


def lego_batman_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the overconfident hero, who invents a gadget for it."""
    return self.facet_prompt_(host, "lego_batman", mission, ask, step)


def guide_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the guide, who knows improbable facts."""
    return self.facet_prompt_(host, "guide", mission, ask, step)
