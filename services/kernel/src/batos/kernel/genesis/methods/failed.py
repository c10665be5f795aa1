"""FAILED: what is known about a failure is told before the thought is forgotten."""

HOST = 2


def _process_synthesis_(self, cycle, host):
    """Return what the thought had reached, for the log."""
    from batos.uvm import slots

    data = slots(cycle).get("_tmp_synthesis_data") or {}
    plan = data.get("plan")
    return {
        "planned": bool(plan),
        "facets": [part["facet"] for part in plan["parts"]] if plan else [],
        "partials": len(data.get("partials") or ()),
        "drafted": host.draft is not None,
    }
