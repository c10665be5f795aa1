"""Every storage that an image can stand on passes one suite: a file, ZEO on a socket, ZEO with TLS, PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.postgres_server import Server
from integration.uvm_servers import short_folder

from batos.console.keys import make_keys
from batos.image import ImageServer, Listening, TlsPort, UnixSocket
from batos.protocol import new_id
from batos.uvm.conformance import StorageConformance, StorageUnderTest
from batos.uvm.tls import server_context
from batos.vessel import free_ports

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


class TestFile(StorageConformance):
    """FileStorage: one process has it."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> StorageUnderTest:
        return StorageUnderTest("file", f"file://{tmp_path}/live_image.fs", exclusive=True)


class TestZeo(StorageConformance):
    """The image vessel's server on a Unix socket, blobs in a folder that both sides see."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[StorageUnderTest]:
        with short_folder() as folder:
            yield from served(
                UnixSocket(folder / "s"), tmp_path, f"zeo://{folder / 's'}?wait_timeout=10&shared_blob_dir=1"
            )


class TestZeoTls(StorageConformance):
    """The same on a port with TLS and client certificates, blobs over the connection."""

    @pytest.fixture
    def storage(self, tmp_path: Path, keys: Path) -> Iterator[StorageUnderTest]:
        (port,) = free_ports(1)
        listening = TlsPort("127.0.0.1", port, server_context(keys / "image"))
        yield from served(listening, tmp_path, f"zeo://localhost:{port}?wait_timeout=10&tls={keys / 'kernel'}")


class TestPostgresql(StorageConformance):
    """RelStorage, a database a test."""

    @pytest.fixture
    def storage(self, postgres_cluster: Server) -> StorageUnderTest:
        name = f"image_{new_id()}"
        postgres_cluster.database(name)
        return StorageUnderTest("postgresql", postgres_cluster.uri(name, "?wait_timeout=10"))


def served(listening: Listening, folder: Path, uri: str) -> Iterator[StorageUnderTest]:
    server = ImageServer(folder / "image", listening, print)
    server.open()
    blobs = f"&blob_dir={folder / 'image' / 'blobs'}" if "shared_blob_dir" in uri else ""
    try:
        yield StorageUnderTest("zeo", uri + blobs)
    finally:
        server.close()
