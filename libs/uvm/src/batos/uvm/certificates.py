"""Makes the certificates with which an image admits its clients: an authority, the server's, the clients'.

The authority's own key is never written: with it anybody could be admitted, and it is not needed again. Who wants other
host names or another expiry makes all of them anew.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=3650)
SLACK = dt.timedelta(minutes=5)
"""A certificate is valid from a little before it was made: clocks of machines differ."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class ImageCertificates:
    """All that one image needs: the authority's certificate, and what it signed for server and clients."""

    authority: bytes
    server: Issued
    client: Issued


def make_certificates(hosts: Iterable[str], *, now: dt.datetime | None = None) -> ImageCertificates:
    """Make an authority, and certificates for one server and its clients.

    Args:
        hosts: names or addresses under which clients reach the server; at least one.
        now: the time from which on they are valid; the clock's if not given.
    """
    begin = (now or dt.datetime.now(dt.UTC)) - SLACK
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("BAT OS image authority")
    authority = (
        _builder(name, name, key.public_key(), begin)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )

    def issue(common_name: str, purpose: x509.ObjectIdentifier, *more: x509.ExtensionType) -> Issued:
        own = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(common_name), name, own.public_key(), begin)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return Issued(_pem(builder.sign(key, hashes.SHA256())), _private(own))

    names = x509.SubjectAlternativeName([_alternative(host) for host in dict.fromkeys(hosts)])
    return ImageCertificates(
        authority=_pem(authority),
        server=issue("BAT OS image server", ExtendedKeyUsageOID.SERVER_AUTH, names),
        client=issue("BAT OS image client", ExtendedKeyUsageOID.CLIENT_AUTH),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, begin: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
