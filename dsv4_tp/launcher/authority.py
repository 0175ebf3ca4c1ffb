"""The cluster's authority: it says who is the coordinator and who the agent of a host.

Its key never leaves this machine, and lies in one file for its user only. The certificates it
gives out are for one launch, and their keys are never on a disk.
"""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dsv4_tp.errors import PreflightError
from dsv4_tp.rpc.auth import COORDINATOR, SLACK_S, Identity, agent_name
from dsv4_tp.rpc.registry import authority_file

_SLACK = timedelta(seconds=SLACK_S)
# As long as a cluster may run: both ends hold theirs while they live, and dial again after a fault.
_LEAF = timedelta(days=366)
_ROOT = timedelta(days=3660)


class Authority:
    """Signs certificates of one cluster."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    def coordinator(self) -> Identity:
        """A new identity for who may command the agents."""
        return self._issue(COORDINATOR, ExtendedKeyUsageOID.CLIENT_AUTH)

    def agent(self, host: str) -> Identity:
        """A new identity for the agent on `host`; it can serve, and command nobody."""
        return self._issue(agent_name(host), ExtendedKeyUsageOID.SERVER_AUTH)

    def _issue(self, name: str, usage: x509.ObjectIdentifier) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key.public_key(), issuer=self._certificate.subject, lives=_LEAF)
        extensions = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
            (x509.ExtendedKeyUsage([usage]), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Identity(_pem(certificate), _pem(self._certificate), _pem_of_key(key))

    def written(self) -> str:
        """Its secret key and its certificate, as `authority_of` reads them."""
        return _pem_of_key(self._key) + _pem(self._certificate)

    def is_good(self, now: datetime) -> bool:
        """Whether what it signs now will be believed."""
        begins, ends = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        return begins <= now <= ends - _LEAF


def new_authority(name: str) -> Authority:
    """One that is in memory only, for agents that end before this process does."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, key.public_key(), issuer=_subject(name), lives=_ROOT)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def authority_of(folder: Path, name: str) -> Authority:
    """The authority of the cluster `name`, made when there is none; kept in `folder`.

    One whose time is over, or has not come because a clock was set, is replaced.

    Raises:
        PreflightError: the file is not one, cannot be used, or others may read it.
    """
    file = authority_file(folder, name)
    try:
        found = _read(file)
        if found is None or not found.is_good(datetime.now(UTC)):
            found = new_authority(name)
            _write(file, found)
    except OSError as error:
        raise PreflightError(f"{file}: {error.strerror}") from error
    return found


def _read(file: Path) -> Authority | None:
    """The authority in a file; None if there is no file."""
    advice = f"remove it, the next launch makes a new one: rm {file}"
    try:
        with file.open("rb") as stream:
            about, text = os.fstat(stream.fileno()), stream.read()
    except FileNotFoundError:
        return None
    if about.st_mode & 0o077 or about.st_uid != os.geteuid():
        raise PreflightError(f"{file}: others could read the key of this cluster; {advice}")
    try:
        key, certificate = load_pem_private_key(text, None), x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise PreflightError(f"{file}: not a key and its certificate; {advice}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PreflightError(f"{file}: not a key of ours; {advice}")
    return Authority(key, certificate)


def _write(file: Path, authority: Authority) -> None:
    """Whole from the moment it is there, and for its user only."""
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    with os.fdopen(handle, "w") as stream:
        stream.write(authority.written())
    Path(draft).replace(file)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, *, issuer: x509.Name, lives: timedelta
) -> x509.CertificateBuilder:
    """What all of our certificates have in common."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + lives)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # no more fit


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
