"""A certificate authority of our own, so that webhooks are verified for real: a root, and one below it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)
SIGNER = "messageverificationcerts.paypal.com"


@dataclass(frozen=True)
class Authority:
    name: str
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        *,
        name: str = SIGNER,
        since: dt.timedelta = -DAY,
        until: dt.timedelta = DAY,
        with_chain: bool = True,
    ) -> bytes:
        """A certificate for a key as PEM, with those above it; its dates are counted from now."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            _unsigned(name, key, self.name, self.key, now + since, now + until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        chain = [builder.sign(self.key, SHA256()), *(self.above if with_chain else ())]
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


@lru_cache
def new_key(name: str) -> rsa.RSAPrivateKey:
    """The same for the same name: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@lru_cache
def root(name: str) -> Authority:
    return Authority(name, new_key(name), _authority(name, name))


@lru_cache
def below(name: str) -> Authority:
    """An authority below a root; only the root is trusted, so its own certificate must come along."""
    own = f"{name}, below"
    certificate = _authority(own, name)
    return Authority(own, new_key(own), certificate, (certificate,))


def _authority(name: str, issuer: str) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _unsigned(name, new_key(name), issuer, new_key(issuer), now - 1000 * DAY, now + 1000 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(new_key(issuer), SHA256())
    )


def _unsigned(
    name: str,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    since: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(_common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
