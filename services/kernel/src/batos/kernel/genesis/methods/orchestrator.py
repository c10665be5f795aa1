"""The orchestrator: it opens cycles."""

HOST = 2


def start_cognitive_cycle_for_(self, host, mission_id):
    """Return a new cycle for a mission, in its first state."""
    cycle = self.cycle_prototype._clone_persistent_(mission_id=mission_id)
    cycle.synthesis_state = host.state(self.first_state)
    return cycle
