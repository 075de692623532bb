# SPDX-License-Identifier: Apache-2.0
"""
Who may talk to a Flight server of this project: where it listens, TLS, and tokens.

Needs pyarrow with Flight. A server that others than this machine can reach wants both TLS and
something that tells clients apart, a token or certificates; anything less must be asked for.

Source: RFC 6750 (bearer tokens) and RFC 7617 (basic authentication), as Arrow Flight uses them in
the header ``authorization``; Arrow Flight RPC, "Authentication".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import os
import ssl
import string
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from pyarrow import flight

from zcrx_arrow.address import Address, parse_address, resolve
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Endpoint", "Tls"]

_log = logging.getLogger("zcrx_arrow.flight")
_SCHEMES: Final = ("grpc", "grpc+tcp", "grpc+tls")
_PEM: Final = "the bytes of a PEM file, or its path"

Pem = bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tls:
    """
    A server's certificate, and whose certificates it takes.

    Parameters
    ----------
    certificate : bytes or path
        PEM: the server's certificate, and those between it and its root.
    key : bytes or path
        PEM: its private key, without a password.
    client_ca : bytes, path or None
        PEM: clients must show a certificate that one of these has signed (mTLS).

    Raises
    ------
    ConfigError
        If a file cannot be read, or certificate and key do not belong together.
    """

    certificate: Pem
    key: Pem
    client_ca: Pem | None = None

    def __post_init__(self) -> None:
        """Read the files and check them."""
        for name in ("certificate", "key", "client_ca"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _read(value, f"tls.{name}"))
        _check_pair(self.certificate, self.key)
        if self.client_ca is not None:
            _check_roots(self.client_ca)

    def __repr__(self) -> str:
        """Say which parts there are, without the key."""
        return f"Tls({'server and client' if self.client_ca else 'server'} certificates)"


def _read(value: Pem, option: str) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return Path(value).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{option} must be {_PEM}: {error}") from None


def _check_pair(certificate: Any, key: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with ExitStack() as stack:
        chain, own = (_as_file(stack, content) for content in (certificate, key))
        try:
            context.load_cert_chain(chain, own, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"tls.certificate and tls.key cannot be used: {error}",
                remedy="Both are PEM, belong together, and the key has no password.",
            ) from None


def _as_file(stack: ExitStack, content: bytes) -> str:
    """Give the path of a file in memory: OpenSSL reads keys from files only."""
    fd = os.memfd_create("zcrx-arrow-pem", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    os.write(fd, content)
    return f"/proc/self/fd/{fd}"


def _check_roots(roots: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=roots.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"tls.client_ca has no certificate that can be used: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
    """Where and for whom a server listens; made and checked by `Endpoint.of`."""

    host: str
    """A literal address."""
    port: int
    tls: Tls | None
    token: str | None

    @classmethod
    def of(cls, location: Address, tls: Tls | None, token: str | None, *, insecure: bool) -> Self:
        """
        Check what a server was asked to do.

        Raises
        ------
        ConfigError
            If the location cannot be read, does not go with `tls`, or others than this machine
            could reach it without TLS and a token or client certificates.
        ZcrxError
            If the host cannot be resolved.
        """
        host, port = _parse(location, tls)
        _check_token(token)
        found = resolve(host, port, passive=True)
        # The first one, literally: what was checked is what is bound.
        literal = str(found[0][1][0])
        made = cls(host=literal, port=port, tls=tls, token=token)
        if not ipaddress.ip_address(literal.partition("%")[0]).is_loopback:
            made._check_exposed(insecure=insecure)
        return made

    def _check_exposed(self, *, insecure: bool) -> None:
        missing = []
        if self.tls is None:
            missing.append("TLS (tls=)")
        if self.token is None and (self.tls is None or self.tls.client_ca is None):
            missing.append("a token (token=) or client certificates (tls.client_ca)")
        if not missing:
            return
        what = " and ".join(missing)
        if not insecure:
            raise ConfigError(
                f"{self.host} can be reached from other machines, and there is no {what}",
                step="listen",
                remedy="Give what is missing, listen on 127.0.0.1, or say insecure=True.",
            )
        _log.warning("listening on %s without %s, as insecure=True says", self.host, what)

    @property
    def uri(self) -> str:
        """What pyarrow calls the location."""
        return self.uri_at(self.port)

    def uri_at(self, port: int) -> str:
        """Give the location with the port that was taken."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'grpc+tls' if self.tls else 'grpc'}://{host}:{port}"

    def server_options(self) -> dict[str, Any]:
        """Give what pyarrow's server wants for it."""
        options: dict[str, Any] = {"location": self.uri}
        if self.tls is not None:
            options["tls_certificates"] = [(self.tls.certificate, self.tls.key)]
            if self.tls.client_ca is not None:
                options |= {"verify_client": True, "root_certificates": self.tls.client_ca}
        if self.token is not None:
            options["middleware"] = {"token": _TokenGate(self.token)}
            # Clients that log in do so by a handshake, which wants a handler to exist.
            options["auth_handler"] = _NoHandshake()
        return options


def _parse(location: Address, tls: Tls | None) -> tuple[str, int]:
    if not isinstance(location, str) or "://" not in location:
        return parse_address(location)
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"location={location!r}: {error}") from None
    if parts.scheme not in _SCHEMES or port is None or parts.path not in ("", "/"):
        raise ConfigError(
            f"location={location!r} must be 'grpc://host:port', 'grpc+tls://host:port' or "
            "'host:port'"
        )
    if parts.scheme == "grpc+tls" and tls is None:
        raise ConfigError(f"location={location!r} wants tls=, the server's certificate and key")
    if parts.scheme == "grpc+tcp" and tls is not None:
        raise ConfigError(f"location={location!r} is one without TLS, but tls= is given")
    return host or "", port


def _check_token(token: str | None) -> None:
    if token is None:
        return
    visible = string.ascii_letters + string.digits + string.punctuation
    if not isinstance(token, str) or not token or set(token) - set(visible):
        raise ConfigError("token must be text of visible ASCII characters, at least one")


class _NoHandshake(flight.ServerAuthHandler):  # type: ignore[misc] # pyarrow has no types
    """Leaves the decision to the header."""

    def authenticate(self, _outgoing: Any, _incoming: Any) -> None:
        """Do nothing: the header was looked at before."""

    def is_valid(self, _token: bytes) -> bytes:
        """Name nobody."""
        return b""


class _TokenGate(flight.ServerMiddlewareFactory):  # type: ignore[misc] # pyarrow has no types
    """Looks at the header of every call."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def start_call(self, _info: Any, headers: dict[str, list[Any]]) -> Any:
        """Let the call pass, or refuse it."""
        given = [value for key, values in headers.items() for value in values if _is_auth(key)]
        if len(given) == 1:
            kind, _, rest = str(given[0]).partition(" ")
            check = _CHECKS.get(kind.lower())
            if check is not None and check(rest.strip(), self._token):
                return _Welcome(self._token) if kind.lower() == "basic" else None
        raise flight.FlightUnauthenticatedError(
            "the header 'authorization' must be 'Bearer' and the token of this server",
            b"unauthenticated",
        )


class _Welcome(flight.ServerMiddleware):  # type: ignore[misc] # pyarrow has no types
    """Tells a client that has logged in what to send from now on."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def sending_headers(self) -> dict[str, str]:
        """Give the header."""
        return {"authorization": f"Bearer {self._token.decode()}"}


def _is_auth(key: str) -> bool:
    return key.lower() == "authorization"


def _bearer(given: str, token: bytes) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token)


def _basic(given: str, token: bytes) -> bool:
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(decoded.partition(b":")[2], token)


_CHECKS: Final[dict[str, Callable[[str, bytes], bool]]] = {"bearer": _bearer, "basic": _basic}
