"""COMPLETE: the thought becomes part of the mind."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Install the validated draft and take the scaffolding away."""
    host.install()
    plan = cycle._tmp_synthesis_data["plan"]
    cycle.plan = (plan["goal"], tuple((part["facet"], part["ask"]) for part in plan["parts"]))
    del cycle._tmp_synthesis_data
