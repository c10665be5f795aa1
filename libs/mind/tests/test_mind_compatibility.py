"""What kernels serve and what the image asks for never miss each other, whoever is faster."""

from __future__ import annotations

from typing import Any

import pytest
from ZODB.POSException import ConflictError

from batos.mind import compatibility
from batos.mind.compatibility import Incompatible, Kernel, Span, StruckOff
from batos.uvm import Image, Transient, install_method

OLD = Kernel("kernel-1", "k1", "0.1.0", host=Span(1, 2), image=Span(1, 2))
PATH = "lobby.hum_"


def hum(root: Any, version: int) -> None:
    install_method(root["lobby"], "hum_", f"HOST = {version}\n\n\ndef hum_(self):\n    pass\n", author="architect")
    compatibility.note_method(root, PATH)


@pytest.mark.parametrize("kernel_first", [True, False], ids=["kernel", "method"])
@pytest.mark.parametrize("change", ["install", "announce"])
def test_of_a_kernel_and_what_it_lacks_one_is_refused(image: Image, change: str, *, kernel_first: bool) -> None:
    """Both saw an image that suited them; the second to commit meets a conflict, and is refused when it looks again."""
    image.run(lambda root: hum(root, 1))

    def ask_for_more(root: Any) -> None:
        if change == "install":
            hum(root, 3)
        else:
            compatibility.announce_version(root, 3)

    def enter(root: Any) -> None:
        compatibility.register(root, OLD)

    first, second = (enter, ask_for_more) if kernel_first else (ask_for_more, enter)
    with image.session() as early, image.session() as late:
        first(early.begin())
        second(late.begin())
        early.commit()
        with pytest.raises(ConflictError):
            late.commit()
    with pytest.raises(Incompatible, match=r"kernel-1 \(release 0.1.0\) serves 1 to 2"):
        image.run(second)


def test_a_kernel_stands_in_the_image_until_it_is_struck_off(image: Image) -> None:
    """Who declares the record current meets a conflict where it is struck off meanwhile."""
    image.run(lambda root: compatibility.register(root, OLD))
    with image.session() as session:
        session.read_current(compatibility.standing(session.begin(), "k1"))
        image.run(lambda root: compatibility.unregister(root, {"k1"}))
        session.root["lobby"].motto = "on"
        with pytest.raises(ConflictError):
            session.commit()
        with pytest.raises(StruckOff, match="does not list the kernel with incarnation k1") as caught:
            compatibility.standing(session.begin(), "k1")
        assert isinstance(caught.value, Transient)


def test_in_an_image_that_knows_no_kernels_none_stands(image: Image) -> None:
    """Neither before the first one has registered."""
    with image.snapshot() as root, pytest.raises(StruckOff):
        compatibility.standing(root, "k1")


def test_a_deleted_method_asks_for_nothing(image: Image) -> None:
    """What is not there any more keeps nobody out; what another release wrote anew does."""
    image.run(lambda root: hum(root, 3))
    with image.snapshot() as root:
        assert compatibility.host_needs(root) == {PATH: 3}
        with pytest.raises(Incompatible, match=f"{PATH} needs host interface 3"):
            compatibility.check(root, OLD)

    def delete(root: Any) -> None:
        del root["lobby"].hum_

    image.run(delete)
    with image.snapshot() as root:
        assert compatibility.host_needs(root) == {}
        compatibility.check(root, OLD)


def test_older_releases_do_not_upgrade(image: Image) -> None:
    """Releases are compared as versions are, not as texts are."""
    newer = Kernel("kernel-2", "k2", "0.10.0", host=Span(1, 2), image=Span(1, 2))
    image.run(lambda root: compatibility.register(root, newer))
    with image.snapshot() as root:
        for release in ("0.10.0", "0.11.0", "1.0"):
            compatibility.refuse_older_release(root, release)
        for release in ("0.9.0", "0.10.0rc1"):
            with pytest.raises(compatibility.NotAllowed, match=r"kernel-2 is of the newer release 0\.10\.0"):
                compatibility.refuse_older_release(root, release)
