"""Adapters in the image: stored unbound, bound only past the gate, rolled back, never two of one content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ZODB.POSException import ConflictError

from batos.mind import MindError, NotAllowed, NotFound, adapters, create_collections, persona
from batos.mind.archive import CONFIG, WEIGHTS, pack, unpack
from batos.uvm import CovenantBroken, Image, Root, UvmObject, plain

MODEL = "a" * 64
PASSED = {"passed": True, "verdict": "it won"}


def store(root: Root, content: bytes = b"weights", **changes: Any) -> str:
    given: dict[str, Any] = {
        "persona_name": "brick",
        "model_hash": MODEL,
        "archive": content,
        "gate": PASSED,
        "dataset_id": "d1",
        "dataset_sha256": "b" * 64,
        "order_id": "o1",
        "training": {"epochs": 3},
    }
    return adapters.add_candidate(root, **(given | changes))


def dna(root: Root, name: str = "BRICK") -> dict[str, Any]:
    found = plain(persona(root, name).dna)
    assert isinstance(found, dict)
    return found


def test_a_candidate_is_named_by_its_content(image: Image) -> None:
    """A candidate's name is its persona and its content's hash; it is stored unbound, with where it comes from."""
    with image.transaction() as root:
        name = store(root)
    assert name == f"brick-{hashlib.sha256(b'weights').hexdigest()[:16]}"
    with image.snapshot() as root:
        found = adapters.get(root, name)
        assert adapters.content(root, name) == b"weights"
        assert adapters.known(root, name)
        assert adapters.names(root) == [name]
        assert adapters.bound(root, MODEL) == {}
    assert (found.state, found.persona, found.parent, found.size) == ("candidate", "BRICK", "", 7)
    assert (found.dataset_sha256, found.order_id, found.training) == ("b" * 64, "o1", {"epochs": 3})


def test_the_same_content_is_stored_once(image: Image, tmp_path: Path) -> None:
    """Storing the same bytes again, here from a file, gives the same adapter and changes nothing."""
    path = tmp_path / "adapter.tar"
    path.write_bytes(b"weights")
    with image.transaction() as root:
        first = store(root)
    with image.transaction() as root:
        assert store(root, archive=path, order_id="o2") == first
        assert adapters.get(root, first).order_id == "o1"


def test_binding_writes_a_new_version_of_the_dna(image: Image) -> None:
    """Binding names the adapter in the persona's DNA, for its base model only, and remembers the one before."""
    with image.transaction() as root:
        first, second = store(root, b"one"), store(root, b"two")
        assert adapters.bind(root, first, "architect") == ("", 2)
        assert adapters.bind(root, second, "architect") == (first, 3)
    with image.snapshot() as root:
        assert dna(root)["adapters"] == {MODEL: second}
        assert dna(root)["previous"] == {MODEL: ["", first]}
        assert adapters.bound(root, MODEL) == {"BRICK": second}
        assert adapters.bound(root, "another model") == {}
        assert [adapters.get(root, name).state for name in (first, second)] == ["retired", "bound"]
        assert adapters.get(root, second).approver == "architect"


def test_binding_twice_is_binding_once(image: Image) -> None:
    """Binding what is bound already changes nothing, so that a retry is harmless."""
    with image.transaction() as root:
        name = store(root)
        first = adapters.bind(root, name, "architect")
        assert adapters.bind(root, name, "architect") == first
        assert dna(root)["version"] == 2


def test_a_later_candidate_names_its_parent(image: Image) -> None:
    """A candidate that is stored while another adapter is bound has that one as its parent."""
    with image.transaction() as root:
        first = store(root, b"one")
        adapters.bind(root, first, "architect")
        assert adapters.get(root, store(root, b"two")).parent == first


def test_what_the_gate_refused_is_not_bound(image: Image) -> None:
    """An adapter without a passed gate cannot be bound, and nothing is changed by trying."""
    with image.transaction() as root:
        name = store(root, gate={"passed": False, "verdict": "it lost"})
        with pytest.raises(NotAllowed, match="it lost") as refused:
            adapters.bind(root, name, "architect")
        assert refused.value.code == "gate_not_passed"
        assert dna(root)["version"] == 1
        assert adapters.get(root, name).state == "candidate"


def test_a_candidate_needs_a_gate_report(image: Image) -> None:
    """What does not say whether it passed the gate is not stored."""
    with image.transaction() as root, pytest.raises(NotAllowed, match="passed"):
        store(root, gate={})


def test_unknown_names_are_told_apart(image: Image) -> None:
    """An unknown adapter and an unknown persona are errors that name what was looked for."""
    with image.transaction() as root:
        with pytest.raises(NotFound, match="brick-0") as missing:
            adapters.bind(root, "brick-0", "architect")
        assert (missing.value.code, missing.value.kind) == ("adapter_unknown", "adapter")
        with pytest.raises(NotFound, match="joker"):
            store(root, persona_name="joker")
        with pytest.raises(NotFound, match="joker"):
            adapters.rollback(root, "joker", MODEL, "architect")


def test_rollback_goes_back_step_by_step(image: Image) -> None:
    """Each rollback binds what was bound before, at last the base model; then there is nothing to roll back."""
    with image.transaction() as root:
        first, second = store(root, b"one"), store(root, b"two")
        adapters.bind(root, first, "architect")
        adapters.bind(root, second, "architect")
        assert adapters.rollback(root, "brick", MODEL, "architect") == (first, second, 4)
        assert adapters.get(root, second).state == "retired"
        assert adapters.get(root, first).state == "bound"
        assert adapters.rollback(root, "BRICK", MODEL, "architect") == ("", first, 5)
        assert adapters.bound(root, MODEL) == {}
        with pytest.raises(NotAllowed, match="base model"):
            adapters.rollback(root, "BRICK", MODEL, "architect")


def test_a_rollback_is_done_once_per_request(image: Image) -> None:
    """A rollback asked for again under the same id answers as before and goes no further back."""
    with image.transaction() as root:
        first, second = store(root, b"one"), store(root, b"two")
        adapters.bind(root, first, "architect")
        adapters.bind(root, second, "architect")
    with image.transaction() as root:
        done = adapters.rollback(root, "brick", MODEL, "architect", request_id="r1")
    with image.transaction() as root:
        assert adapters.rollback(root, "brick", MODEL, "architect", request_id="r1") == done
        assert adapters.bound(root, MODEL) == {"BRICK": first}


def test_bindings_at_the_same_time_conflict(image: Image) -> None:
    """Of two transactions that change the organization side by side only one commits, whatever personas they touch."""
    with image.transaction() as root:
        mine, other = store(root, b"one"), store(root, b"two", persona_name="ROBIN")
    with image.session() as one, image.session() as two:
        adapters.bind(one.begin(), mine, "architect")
        adapters.bind(two.begin(), other, "architect")
        one.commit()
        with pytest.raises(ConflictError):
            two.commit()


def test_binding_in_a_broken_organization_is_refused(image: Image) -> None:
    """A binding that would leave the organization incomplete breaks its covenant and cannot be committed."""
    with image.transaction() as root:
        name = store(root)
        root["lobby"].babs_prototype_obj = None
    with pytest.raises(CovenantBroken, match="babs"), image.transaction() as root:
        adapters.bind(root, name, "architect")
    with image.snapshot() as root:
        assert adapters.get(root, name).state == "candidate"


def test_changed_bytes_are_noticed(image: Image) -> None:
    """Stored bytes that do not have the hash they are named by are refused."""
    with image.transaction() as root:
        name = store(root)
        with root["lobby"].pLLM_obj.lora_repository[name].content.open("w") as blob:
            blob.write(b"other weights")
    with image.snapshot() as root, pytest.raises(MindError, match="backup") as corrupt:
        adapters.content(root, name)
    assert corrupt.value.code == "adapter_corrupt"


def test_an_image_without_collections_is_served() -> None:
    """Before genesis nothing is known and nothing bound; collections are added once, and keep what they hold."""
    root: dict[str, Any] = {"lobby": UvmObject()}
    assert not adapters.known(root, "brick-0")
    assert adapters.bound(root, MODEL) == {}
    create_collections(root)
    kept = dict(root)
    create_collections(root)
    assert root == kept
    assert adapters.names(root) == []


def test_an_archive_is_the_same_for_the_same_content() -> None:
    """Packing is deterministic, and unpacking gives both files back."""
    assert pack(b"{}", b"\0\1") == pack(b"{}", b"\0\1")
    assert unpack(pack(b"{}", b"\0\1")) == {CONFIG: b"{}", WEIGHTS: b"\0\1"}


@pytest.mark.parametrize("damage", [b"", b"no tar at all", pack(b"{}", b"x")[:700]], ids=["empty", "other", "torn"])
def test_a_broken_archive_is_refused(damage: bytes) -> None:
    """What is no whole archive is an error with a sentence, not a traceback of tarfile's."""
    with pytest.raises(MindError, match="archive"):
        unpack(damage)


def test_an_archive_holds_only_its_two_files() -> None:
    """A member with another name, for example one that climbs out of its folder, is refused."""
    evil = pack(b"{}", b"x").replace(CONFIG.encode(), b"../dapter_config.json"[: len(CONFIG)])
    with pytest.raises(MindError):
        unpack(evil)
