"""This kernel among those of the image: what it serves stands there from its awakening to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from batos.kernel.awakening import awaken
from batos.mind import compatibility
from batos.mind.compatibility import Kernel
from batos.uvm import Image, Root

_log = logging.getLogger("batos.kernel")


class Registration:
    """Keeps the image's list of kernels true. Thread-safe; its methods block, and one waits for the other.

    Args:
        image: where the list stands.
        kernel: this one.
        notice: told what of the image is not as this release would have it, in words; nothing where all is.
    """

    def __init__(self, image: Image, kernel: Kernel, notice: Callable[[str], object] = lambda _: None) -> None:
        self._image = image
        self._kernel = kernel
        self._notice = notice
        self._lock = threading.Lock()
        self._left = False

    def enter(self) -> None:
        """Awaken: fill what the image lacks, check it, and stand in its list from then on. Nothing after `leave`.

        Raises:
            What `awaken` raises.
        """
        with self._lock:
            if not self._left:
                awaken(self._image, self._kernel)

    def keep(self, gone: Callable[[str], bool]) -> None:
        """Forget kernels that ended without a word; enter this one again where another one took it for gone.

        Args:
            gone: says of an incarnation whether it has been missing for long enough.

        Raises:
            Incompatible: this kernel was taken for gone, and by now the image asks for what it does not serve.
            batos.uvm.UvmError: the image cannot be read or written.
        """
        with self._lock:
            if not self._left:
                self._keep(gone)

    def leave(self) -> None:
        """Take this kernel off the list, for good.

        Raises:
            batos.uvm.UvmError: the image cannot be written; others will find that it is gone.
        """
        self._left = True
        with self._lock:
            self._image.run(
                lambda root: compatibility.unregister(root, {self._kernel.incarnation}),
                user=self._kernel.name,
                note="it thinks here no longer",
            )

    def _keep(self, gone: Callable[[str], bool]) -> None:
        with self._image.snapshot() as root:
            known = {one.incarnation for one in compatibility.registered(root)}
            version = compatibility.image_version(root)
        self._notice(_older(version, self._kernel.image.newest))
        lost = {one for one in known - {self._kernel.incarnation} if gone(one)}
        if not lost and self._kernel.incarnation in known:
            return
        forgotten = self._image.run(
            lambda root: self._mend(root, lost), user=self._kernel.name, note="kernels that are here"
        )
        for one in forgotten:
            _log.info("%s (%s) is gone", one.name, one.incarnation)

    def _mend(self, root: Root, lost: set[str]) -> list[Kernel]:
        forgotten = compatibility.unregister(root, lost)
        if self._kernel not in compatibility.registered(root):  # who stands there is served, and is not asked again
            compatibility.register(root, self._kernel)
        return forgotten


def _older(version: int, newest: int) -> str:
    if version >= newest:
        return ""
    return f"the image has version {version}, and this release brings it to {newest}: batos image migrate"
