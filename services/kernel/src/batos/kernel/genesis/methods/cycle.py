"""A cycle: one run of the state machine for a mission."""

HOST = 2


def _process_synthesis_(self, host):
    """Let the current state act; return the name of the state that comes next."""
    return self.synthesis_state._process_synthesis_(self, host)
