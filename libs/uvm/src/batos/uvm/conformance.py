"""What every storage under an image must do: a suite of tests to derive from, run over each kind of storage.

A test module derives a class named `Test…` from `StorageConformance` and gives one fixture, `storage`: a
`StorageUnderTest` with a new, empty storage. Nothing but images opened on it is touched, so that whatever can be opened
can be tested:

    class TestMine(StorageConformance):
        @pytest.fixture
        def storage(self, tmp_path):
            yield StorageUnderTest("mine", f"mine://{tmp_path}")

A storage that cannot do something overrides that test with the reason. Needs pytest (the extra `conformance`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zodbpickle.pickle
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.POSException import ConflictError, ReadConflictError

from batos.uvm.addresses import resolve
from batos.uvm.blobs import read_blob, store_blob
from batos.uvm.errors import BelongsToVessel, ForeignClass, NoSuchMoment, ReadOnly
from batos.uvm.image import Image, open_image
from batos.uvm.methods import install_method, method_history
from batos.uvm.objects import UvmObject
from batos.uvm.places import place_at
from batos.uvm.portrait import changes_of
from batos.uvm.session import Root
from batos.uvm.undoing import undo
from batos.uvm.values import PersistentDict

ROUNDS = 100
"""How often what one client saw acknowledged is looked for by another."""
MEGABYTE = 2**20
DAY_S = 86_400.0
PICKLE_PROTOCOL = 3
"""Of ZODB's records."""


@dataclass(frozen=True)
class StorageUnderTest:
    """A storage to open images on.

    Attributes:
        name: for the tests' ids.
        uri: of an empty storage.
        exclusive: only one image at a time can be open on it; its clients are then sessions of that one.
    """

    name: str
    uri: str
    exclusive: bool = False

    @contextlib.contextmanager
    def clients(self, count: int = 2) -> Iterator[list[Image]]:
        """Open as many independent images as the storage lets."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(open_image(self.uri)) for _ in range(1 if self.exclusive else count)]
            yield [opened[number % len(opened)] for number in range(count)]


def _committed(image: Image, number: int) -> str:
    """Write a number into the lobby; return the transaction."""
    with image.session() as session:
        session.begin()["lobby"].n = number
        return session.commit()


class ForeignThing(PersistentMapping):  # type: ignore[misc]  # ZODB has no types
    """A persistent class that no image allows."""


class Trap:
    """Makes a folder where it is loaded from a pickle."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def pickled(*values: object) -> bytes:
    """A record: the pickle of a class, then that of a state."""
    return b"".join(zodbpickle.pickle.dumps(value, PICKLE_PROTOCOL) for value in values)


def store_record(root: Root, oid: bytes, record: bytes, said: bytes = b"") -> None:
    """Commit one record as a client may that keeps none of our rules.

    Args:
        root: of a running transaction, whose state of the object is followed.
        oid: of the object.
        record: what is stored; empty: what is there.
        said: the pickle of what the transaction says of itself.
    """
    storage: Any = root._p_jar._storage  # type: ignore[attr-defined]  # the root is a persistent mapping
    there, serial = storage.load(oid)
    commit = TransactionMetaData(extension=said)
    commit.extension = said  # ZEO sends this
    storage.tpc_begin(commit)
    try:
        storage.store(oid, serial, record or there, "", commit)
        storage.tpc_vote(commit)
        storage.tpc_finish(commit)
    except BaseException:
        storage.tpc_abort(commit)
        raise


class StorageConformance:
    """The suite."""

    @pytest.fixture
    def storage(self) -> Iterator[StorageUnderTest]:
        """Give the storage; every derived class does."""
        raise TypeError(f"{type(self).__name__} gives no fixture `storage`")

    def test_an_empty_storage_becomes_an_image_with_an_empty_lobby(self, storage: StorageUnderTest) -> None:
        """Opening it again finds that lobby."""
        with storage.clients(1) as (image,), image.snapshot() as root:
            first = root["lobby"]._p_oid
        with storage.clients(1) as (image,), image.snapshot() as root:
            assert root["lobby"]._p_oid == first

    def test_everything_that_may_stand_in_a_slot_comes_back(self, storage: StorageUnderTest) -> None:
        """After the image was closed and opened: values, twins, trees, objects with parents, methods, blobs."""
        values: dict[str, Any] = {
            "text": "naïve 東京",
            "number": -(2**70),
            "time": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            "nested": [1, {"a": (2, {3})}],
        }
        with storage.clients(1) as (image,), image.transaction() as root:
            root["lobby"].parent = UvmObject(**values)
            root["lobby"].child = UvmObject([root["lobby"].parent], own=b"\x00\xff")
            root["lobby"].tree = OOBTree({f"key {n:04}": PersistentDict(n=n) for n in range(500)})
            root["lobby"].count = Length(7)
            root["lobby"].weights = store_blob(b"\x01" * MEGABYTE)
            install_method(root["lobby"].parent, "shout", "def shout(self): return self.text.upper()", author="genesis")
        with storage.clients(1) as (image,), image.snapshot() as root:
            child = root["lobby"].child
            assert {name: getattr(child, name) for name in ("text", "number", "time")} == {
                name: values[name] for name in ("text", "number", "time")
            }
            assert child.nested[1]["a"] == (2, {3})
            assert child.shout() == "NAÏVE 東京"
            assert method_history(root["lobby"].parent, "shout")[0].author == "genesis"
            assert root["lobby"].tree["key 0321"]["n"] == 321
            assert root["lobby"].count() == 7
            assert read_blob(root["lobby"].weights) == b"\x01" * MEGABYTE

    def test_what_one_client_saw_acknowledged_every_other_client_sees(self, storage: StorageUnderTest) -> None:
        """Read after acknowledgement, in both directions, each time."""
        with storage.clients() as clients:
            for number in range(ROUNDS):
                writer, reader = clients[number % 2], clients[1 - number % 2]
                with writer.transaction() as root:
                    root["lobby"].n = number
                with reader.snapshot() as root:
                    assert root["lobby"].n == number

    def test_a_transaction_sees_one_state(self, storage: StorageUnderTest) -> None:
        """What others commit meanwhile shows in the next one only, in objects that were not loaded yet as well."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["lobby"].a, root["lobby"].b = UvmObject(n=0), UvmObject(n=0)
            with one.session() as session:
                begun = session.begin()
                assert begun["lobby"].a.n == 0
                with other.transaction() as root:
                    root["lobby"].a.n = root["lobby"].b.n = 1
                assert (begun["lobby"].a.n, begun["lobby"].b.n) == (0, 0)
                session.abort()
                begun = session.begin()
                assert (begun["lobby"].a.n, begun["lobby"].b.n) == (1, 1)

    def test_heirs_follow_what_another_client_changes(self, storage: StorageUnderTest) -> None:
        """With its next transaction a client's heirs understand what the other client taught their ancestor."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["lobby"].top = UvmObject(x=1)
                root["lobby"].leaf = UvmObject([UvmObject([root["lobby"].top])])
            with other.session() as session:
                assert session.begin()["lobby"].leaf.x == 1
                with one.transaction() as root:
                    root["lobby"].top.x = 2
                    install_method(root["lobby"].top, "twice", "def twice(self): return self.x * 2", author="architect")
                assert session.root["lobby"].leaf.x == 1
                session.abort()
                assert session.begin()["lobby"].leaf.twice() == 4

    def test_of_two_who_change_one_object_the_second_conflicts(self, storage: StorageUnderTest) -> None:
        """Nothing of the second is stored; declared reads conflict as well; different objects do not."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["lobby"].a, root["lobby"].b = UvmObject(n=0), UvmObject(n=0)
            with one.session() as first, other.session() as second:
                first.begin()["lobby"].a.n = 1
                root = second.begin()
                root["lobby"].a.n = 2
                root["lobby"].b.n = 2
                first.commit()
                with pytest.raises(ConflictError):
                    second.commit()
                assert (second.begin()["lobby"].a.n, second.root["lobby"].b.n) == (1, 0)
                second.read_current(second.root["lobby"].a)
                second.root["lobby"].b.n = 3
                first.begin()["lobby"].a.n = 4
                first.commit()
                with pytest.raises(ReadConflictError):
                    second.commit()
                first.begin()["lobby"].a.n = 5
                second.begin()["lobby"].b.n = 6
                first.commit()
                second.commit()
            with one.snapshot() as root:
                assert (root["lobby"].a.n, root["lobby"].b.n) == (5, 6)

    def test_a_hot_counter_loses_nothing(self, storage: StorageUnderTest) -> None:
        """Four threads on two clients: conflicts are tried again until every increment is in."""

        def increase(root: Root) -> None:
            root["lobby"].n += 1

        with storage.clients() as clients:
            with clients[0].transaction() as root:
                root["lobby"].n = 0
            with ThreadPoolExecutor(4) as pool:
                work = [pool.submit(clients[n % 2].run, increase, attempts=200) for n in range(40)]
                for one in work:
                    one.result()
            with clients[1].snapshot() as root:
                assert root["lobby"].n == 40

    def test_aborts_and_savepoints_leave_nothing(self, storage: StorageUnderTest) -> None:
        """What was rolled back is not stored, what was done before and after it is, blobs included."""
        with storage.clients(1) as (image,):
            with image.session() as session:
                session.begin()["lobby"].gone = 1
                session.abort()
                root = session.begin()
                root["lobby"].before = store_blob(b"before")
                point = session.savepoint()
                root["lobby"].between = store_blob(b"between")
                point.rollback()
                root["lobby"].after = 3
                session.commit()
            with image.snapshot() as root:
                lobby = root["lobby"]
                assert (read_blob(lobby.before), lobby.after) == (b"before", 3)
                assert not hasattr(lobby, "gone")
                assert not hasattr(lobby, "between")

    def test_the_past_can_be_read(self, storage: StorageUnderTest) -> None:
        """By transaction and by time; a moment before the image began, or in the future, is refused."""
        with storage.clients(1) as (image,):
            tids = []
            for number in range(3):
                with image.transaction() as root:
                    root["lobby"].n = number
                    root["lobby"].blob = store_blob(bytes([number]))
                tids.append(image.last_tid())
            for number, tid in enumerate(tids):
                with image.at(tid) as root:
                    assert (root["lobby"].n, read_blob(root["lobby"].blob)) == (number, bytes([number]))
                    with pytest.raises(ReadOnly):
                        root["lobby"].n = 9
            with image.at(dt.datetime.now(dt.UTC)) as root:
                assert root["lobby"].n == 2
            for moment in ("0000000000000001", dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)):
                with pytest.raises(NoSuchMoment), image.at(moment):
                    pass

    def test_a_clock_that_is_set_back_loses_nothing(self, storage: StorageUnderTest) -> None:
        """Transactions keep their order: each can be looked at, and histories tell them in it."""
        with storage.clients() as clients, pytest.MonkeyPatch.context() as patched:
            tids = [_committed(clients[0], 0)]
            behind = time.time() - DAY_S
            patched.setattr(time, "time", lambda: behind)
            tids += [_committed(clients[number % 2], number) for number in range(1, 5)]
            patched.undo()
            tids.append(_committed(clients[1], 5))
            assert tids == sorted(set(tids))
            for client in clients:
                for number, tid in enumerate(tids):
                    with client.at(tid) as root:
                        assert root["lobby"].n == number
                with client.snapshot() as root:
                    assert root["lobby"].n == 5
                    assert [change.tid for change in changes_of(place_at(root, "lobby"), 6)] == tids[::-1]

    def test_history_says_who_changed_an_object_and_for_what(self, storage: StorageUnderTest) -> None:
        """The newest first, with user, note, cycle and mission."""
        with storage.clients() as (one, other):
            with one.transaction(user="architect", note="first") as root:
                root["lobby"].thing = UvmObject(n=1)
            with one.transaction(user="kernel-1", note="a thought", cycle="c1", mission="m1") as root:
                root["lobby"].thing.n = 2
            with other.snapshot() as root:
                newest, first = changes_of(place_at(root, "lobby.thing"), 10)
            assert (newest.user, newest.note, newest.cycle, newest.mission) == ("kernel-1", "a thought", "c1", "m1")
            assert (first.user, first.note, first.cycle) == ("architect", "first", "")
            assert newest.tid > first.tid

    def test_a_thought_can_be_undone_by_a_new_transaction(self, storage: StorageUnderTest) -> None:
        """Where nothing built on it; what another client changed since is left."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["lobby"].a, root["lobby"].b = UvmObject(n=0), UvmObject(n=0)
            with one.transaction(cycle="c1") as root:
                root["lobby"].a.n = root["lobby"].b.n = 1
            thought = one.last_tid()
            with other.transaction() as root:
                root["lobby"].b.n = 2
            with one.transaction() as root:
                done = undo(root, thought)
            assert (done.restored, [left.path for left in done.left]) == (("lobby.a",), ["lobby.b"])
            with other.snapshot() as root:
                assert (root["lobby"].a.n, root["lobby"].b.n) == (0, 2)

    def test_thoughts_are_undone_newest_first(self, storage: StorageUnderTest) -> None:
        """Each by a client that has nothing in memory: what the one put back stands as the one before left it."""
        with storage.clients(1) as (image,):
            thoughts = [_committed(image, number) for number in range(4)]
        for number in (3, 2, 1):
            with storage.clients(1) as (image,), image.transaction() as root:
                assert undo(root, thoughts[number]).restored == ("lobby",)
                assert root["lobby"].n == number - 1

    def test_what_belongs_to_the_vessel_is_refused_and_nothing_is_stored(self, storage: StorageUnderTest) -> None:
        """Even where it came past the gate of writing; the client goes on."""
        with storage.clients(1) as (image,):
            with pytest.raises(BelongsToVessel, match=r"lobby\.lock"), image.transaction() as root:
                root["lobby"].fine = 1
                root["lobby"].__dict__["lock"] = threading.Lock()
                root["lobby"]._p_changed = True
            with image.transaction() as root:
                assert not hasattr(root["lobby"], "fine")
                root["lobby"].fine = 2
            with image.snapshot() as root:
                assert root["lobby"].fine == 2

    def test_a_foreign_class_is_never_loaded(self, storage: StorageUnderTest) -> None:
        """A record that a plain ZODB client wrote, with a class that no image allows, is refused when it is read."""
        with storage.clients(1) as (image,), image.transaction() as root:
            root["lobby"].fine = 1
            root["smuggled"] = PersistentDict()
        address = resolve(storage.uri)
        database = DB(address.open_storage(False))
        try:
            manager = TransactionManager(explicit=True)
            connection = database.open(manager)
            manager.begin()
            connection.root()["smuggled"].data["foreign"] = ForeignThing()
            connection.root()["smuggled"]._p_changed = True
            manager.commit()
            connection.close()
        finally:
            database.close()
            address.release()
        with storage.clients(1) as (image,), image.snapshot() as root:
            assert root["lobby"].fine == 1
            with pytest.raises(ForeignClass, match="ForeignThing"):
                len(root["smuggled"])

    @pytest.mark.parametrize("place", ["class", "state", "stored state"])
    def test_a_foreign_pickle_in_a_conflict_runs_nothing(
        self, storage: StorageUnderTest, place: str, tmp_path: Path
    ) -> None:
        """Neither here nor where the storage is: what is not of the image's classes stays a conflict."""
        trap = tmp_path / "sprung"
        foreign = pickled(Length, Trap(trap))
        with storage.clients() as (one, other), one.session() as session:
            session.begin()["count"] = Length(1)
            session.commit()
            late = session.begin()
            oid = late["count"]._p_oid
            with other.session() as first:
                store_record(first.begin(), oid, foreign if place == "stored state" else pickled(Length, 2))
            with pytest.raises(ConflictError):
                store_record(
                    late, oid, {"class": pickled(Trap(trap), 3), "state": foreign}.get(place, pickled(Length, 3))
                )
        assert not trap.exists()

    def test_conflicts_of_the_images_own_classes_are_settled(self, storage: StorageUnderTest) -> None:
        """Counters add up, and trees take in what both put there, objects too."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["count"], root["tree"] = Length(1), OOBTree({"a": UvmObject(n=1)})
            with one.session() as first, other.session() as second:
                for session, key in ((first, "b"), (second, "c")):
                    root = session.begin()
                    root["count"].change(1)
                    root["tree"][key] = UvmObject(n=2)
                first.commit()
                second.commit()
            with one.snapshot() as root:
                assert root["count"]() == 3
                assert {key: value.n for key, value in root["tree"].items()} == {"a": 1, "b": 2, "c": 2}

    def test_a_foreign_pickle_in_what_a_transaction_says_of_itself_runs_nothing(
        self, storage: StorageUnderTest, tmp_path: Path
    ) -> None:
        """Its history is refused instead; the object itself is there."""
        trap = tmp_path / "sprung"
        with storage.clients(1) as (image,):
            with image.transaction() as root:
                root["lobby"].n = 1
                oid = root["lobby"]._p_oid
            with image.session() as session:
                store_record(session.begin(), oid, b"", said=pickled({"note": Trap(trap)}))
        with storage.clients(1) as (image,), image.snapshot() as root:
            assert root["lobby"].n == 1
            with pytest.raises(Exception, match=r"ForeignClass|not one of the image's classes"):
                changes_of(place_at(root, "lobby"), 10)
        assert not trap.exists()

    def test_an_image_opened_for_reading_changes_nothing(self, storage: StorageUnderTest) -> None:
        """It reads what is there, and refuses to write."""
        with storage.clients(1) as (image,), image.transaction() as root:
            root["lobby"].n = 1
        with open_image(storage.uri, read_only=True) as image, image.snapshot() as root:
            assert root["lobby"].n == 1
            with pytest.raises(ReadOnly):
                root["lobby"].n = 2

    def test_a_large_transaction_is_stored_whole(self, storage: StorageUnderTest) -> None:
        """Thousands of objects and several megabytes in one commit."""
        with storage.clients() as (one, other):
            with one.transaction() as root:
                root["lobby"].many = [UvmObject(n=n, text="x" * 1000) for n in range(3000)]
            with other.snapshot() as root:
                many = root["lobby"].many
                assert (len(many), sum(item.n for item in many)) == (3000, 3000 * 2999 // 2)
