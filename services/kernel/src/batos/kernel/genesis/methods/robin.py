"""ROBIN's pillars, each a facet that can be asked."""

HOST = 2


def sage_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the sage, who sees the whole."""
    return self.facet_prompt_(host, "sage", mission, ask, step)


def simple_heart_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the simple heart, who is kind in few words."""
    return self.facet_prompt_(host, "simple_heart", mission, ask, step)


def joyful_spark_facet_(self, host, mission, ask, step):
    """Return the prompt that asks the joyful spark, who makes it an adventure."""
    return self.facet_prompt_(host, "joyful_spark", mission, ask, step)
