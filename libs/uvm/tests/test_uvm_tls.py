"""Certificates of an image: who is admitted, tried by handshakes in memory."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest

from batos.uvm import BadImageUri, TlsUnusable, open_image
from batos.uvm.certificates import ImageCertificates, make_certificates
from batos.uvm.tls import client_context, server_context

HOSTS = ("image", "127.0.0.1")


def written(folder: Path, made: ImageCertificates) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "image-ca.pem").write_bytes(made.authority)
    for name, issued in (("image-server", made.server), ("image-client", made.client)):
        (folder / f"{name}.pem").write_bytes(issued.certificate)
        (folder / f"{name}.key").write_bytes(issued.key)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "keys", make_certificates(HOSTS))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "image") -> None:
    """Both sides over memory; raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=host),
    ]
    while sides:
        before = (to_server.pending, to_client.pending, len(sides))
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                continue
        assert (to_server.pending, to_client.pending, len(sides)) != before, "the handshake stands still"


def test_server_and_client_of_one_fleet_know_each_other(folder: Path) -> None:
    """By name and by address."""
    for host in HOSTS:
        shake_hands(server_context(folder), client_context(folder), host)


def test_a_client_without_a_certificate_is_refused(folder: Path) -> None:
    """Knowing the authority is not enough."""
    anonymous = ssl.create_default_context(cafile=folder / "image-ca.pem")
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        shake_hands(server_context(folder), anonymous)


def test_a_client_of_another_fleet_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its certificate is signed by an authority of its own."""
    other = written(tmp_path / "other", make_certificates(HOSTS))
    (other / "image-ca.pem").write_bytes((folder / "image-ca.pem").read_bytes())
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed"):
        shake_hands(server_context(folder), client_context(other))


def test_a_server_of_another_fleet_is_refused(folder: Path, tmp_path: Path) -> None:
    """A client tells nothing to whoever stands in the image's place."""
    other = written(tmp_path / "other", make_certificates(HOSTS))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(other), client_context(folder))


def test_a_client_cannot_pretend_to_be_the_server(folder: Path) -> None:
    """A client's certificate is good for nothing else."""
    for suffix in (".pem", ".key"):
        (folder / f"image-server{suffix}").write_bytes((folder / f"image-client{suffix}").read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(server_context(folder), client_context(folder))


def test_another_host_is_refused(folder: Path) -> None:
    """The server's certificate is for the names that it was made for."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server_context(folder), client_context(folder), "elsewhere")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """Ten years after it was made."""
    old = written(tmp_path / "keys", make_certificates(HOSTS, now=dt.datetime.now(dt.UTC) - dt.timedelta(days=3651)))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(server_context(old), client_context(old))


def test_a_missing_file_is_named(folder: Path) -> None:
    """With the command that makes it."""
    (folder / "image-client.key").unlink()
    with pytest.raises(TlsUnusable, match=r"image-client\.key.*not there.*batos keys make") as caught:
        client_context(folder)
    assert caught.value.path == folder / "image-client.key"


@pytest.mark.parametrize("name", ["image-ca.pem", "image-client.pem", "image-client.key"])
def test_a_file_that_is_something_else_is_named(folder: Path, name: str) -> None:
    """Whatever OpenSSL says of it goes along."""
    (folder / name).write_text("nothing of the kind")
    with pytest.raises(TlsUnusable, match=r"image-(ca|client)\.pem cannot be used for TLS"):
        client_context(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    """The pair has to fit."""
    (folder / "image-client.key").write_bytes((folder / "image-server.key").read_bytes())
    with pytest.raises(TlsUnusable, match=r"with image-client\.key"):
        client_context(folder)


def test_over_a_network_an_image_is_not_opened_without_tls() -> None:
    """Only this machine's own loopback is."""
    with pytest.raises(BadImageUri, match="with TLS only"):
        open_image("zeo://image:9991")
