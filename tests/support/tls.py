"""A server certificate for any host name, which vouches for itself:
its file is the server's chain and the client's ca_file.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from syncd.simulator.github import GitHub
from syncd.simulator.server import _Server


@cache
def _pem(host: str) -> tuple[bytes, bytes]:
    """Certificate and key."""
    key, name, now = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)]),
        datetime.now(UTC),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = made.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return certificate, key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(host: str, folder: Path) -> tuple[Path, Path]:
    """(chain with key, for the server; certificate alone, for ca_file)."""
    chain, alone = folder / f"{host}.chain.pem", folder / f"{host}.ca.pem"
    public, private = _pem(host)
    chain.write_bytes(private + public)
    alone.write_bytes(public)
    return chain, alone


@contextmanager
def over_tls(github: GitHub, host: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """The simulator over TLS as `host`, on a port of loopback;
    and the authority that vouches for it.
    """
    chain, authority = certificate(host, folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = _Server(github, 0)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield server.server_address[1], authority
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
