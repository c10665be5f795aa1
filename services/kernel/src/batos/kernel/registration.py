"""This kernel among those of the image: what it serves stands there from its awakening to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from batos.mind import compatibility
from batos.mind.compatibility import Kernel
from batos.uvm import Image, Root

_log = logging.getLogger("batos.kernel")


class Registration:
    """Keeps the image's list of kernels true. `awaken` enters this kernel into it. Its methods block.

    Args:
        image: where the list stands.
        kernel: this one.
        notice: told what of the image is not as this release would have it, in words; nothing where all is.
    """

    def __init__(self, image: Image, kernel: Kernel, notice: Callable[[str], object] = lambda _: None) -> None:
        self._image = image
        self._kernel = kernel
        self._notice = notice

    def keep(self, gone: Callable[[str], bool]) -> None:
        """Forget kernels that ended without a word; enter this one again where another one took it for gone.

        Args:
            gone: says of an incarnation whether it has been missing for long enough.

        Raises:
            Incompatible: this kernel was taken for gone, and by now the image asks for what it does not serve.
            batos.uvm.UvmError: the image cannot be read or written.
        """
        with self._image.snapshot() as root:
            known = {one.incarnation for one in compatibility.registered(root)}
            version = compatibility.image_version(root)
        self._notice(_older(version, self._kernel.image.newest))
        lost = {one for one in known - {self._kernel.incarnation} if gone(one)}
        if lost or self._kernel.incarnation not in known:
            self._image.run(lambda root: self._mend(root, lost), user=self._kernel.name, note="kernels that are here")

    def leave(self) -> None:
        """Take this kernel off the list.

        Raises:
            batos.uvm.UvmError: the image cannot be written; others will find that it is gone.
        """
        self._image.run(
            lambda root: compatibility.unregister(root, {self._kernel.incarnation}),
            user=self._kernel.name,
            note="it thinks here no longer",
        )

    def _mend(self, root: Root, lost: set[str]) -> None:
        for one in compatibility.unregister(root, lost):
            _log.info("%s (%s) is gone", one.name, one.incarnation)
        compatibility.register(root, self._kernel)


def _older(version: int, newest: int) -> str:
    if version >= newest:
        return ""
    return f"the image has version {version}, and this release brings it to {newest}: batos image migrate"
