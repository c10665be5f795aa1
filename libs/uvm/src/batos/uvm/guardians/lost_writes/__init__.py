"""Which values of a source are copies of what stands in the image, and what it writes into them.

An abstract interpretation: every place of the source that makes a container, reads a slot or defines a function is a
thing (`things`), every name stands for some of them (`names`), and what stands in a thing only ever grows (`heap`).
So two names of one list are one thing, however it came to either. What nothing is known of may be all that it was made
from. A change of a copy is refused (`writes`), but where the live method sets its slot afterwards on every way.
"""

from batos.uvm.guardians.lost_writes.flow import faults_of_flow

__all__ = ["faults_of_flow"]
