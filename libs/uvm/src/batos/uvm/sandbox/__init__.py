"""The sandbox: methods that a cycle wrote run in worker processes, and reach the image through the host alone.

with Sandbox(audit=log) as sandbox:
    image.sandbox = sandbox
"""

from batos.uvm.sandbox.audit import AuditRecord
from batos.uvm.sandbox.limits import Limits
from batos.uvm.sandbox.pool import Sandbox

__all__ = ["AuditRecord", "Limits", "Sandbox"]
