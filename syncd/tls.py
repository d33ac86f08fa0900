"""TLS contexts for everything that syncd connects to.

That is the API, logins, LFS storage, notifications and the nothing-to-do check. Nothing of the
environment has an influence: `ssl.create_default_context` writes the keys of connections where
SSLKEYLOGFILE says, and takes the machine's authorities from where SSL_CERT_FILE and SSL_CERT_DIR
say. Imports the standard library only, because the nothing-to-do check uses it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable


class _Context(ssl.SSLContext):
    """A context whose protocols are set once.

    urllib3 sets them before every handshake, which frees what the handshakes of other threads are
    reading.
    """

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Do nothing: they are set."""


def client_context(*files: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in `files` alone.

    It requires a certificate with the right name.

    Raises OSError (which ssl.SSLError is) for a file that can't be read or holds no certificate.
    """
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    for file in files:
        context.load_verify_locations(file)
    return context


def machine_context(*files: str) -> ssl.SSLContext:
    """Return a context that trusts the machine's own authorities and those in `files`."""
    context, places = client_context(*files), ssl.get_default_verify_paths()
    file, folder = places.openssl_cafile, places.openssl_capath
    if os.path.isfile(file) or os.path.isdir(folder):
        context.load_verify_locations(
            file if os.path.isfile(file) else None, folder if os.path.isdir(folder) else None
        )
    return context


__all__ = ["client_context", "machine_context"]
