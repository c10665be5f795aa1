"""What all personas share."""

HOST = 2


def facet_prompt_(self, host, facet, mission, ask, step):
    """Build the prompt of one of this persona's pillars: the pillar speaks as the system, the mission as the user."""
    system = f"{self.pillars[facet]} {self.facet_prompt} {ask}"
    return host.prompt(
        self.name,
        step,
        [host.turn("system", system), host.turn("user", ("mission", mission))],
        self.facet_max_tokens,
        facet=facet,
        repeat_penalty=self.facet_repeat_penalty,
    )
