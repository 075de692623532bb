# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Flight connector share."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import threading

import pyarrow as pa
from pyarrow import flight

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def numbered(first: int, count: int, width: int = 10) -> pa.RecordBatch:
    """Make rows whose numbers tell which they are."""
    numbers = range(first, first + count)
    return pa.record_batch(
        [pa.array(numbers, pa.int64()), pa.array([f"{n:0{width}}" for n in numbers])],
        schema=SCHEMA,
    )


class Feed:
    """
    A source that the test drives: what is put comes out.

    It has what a `Source` has for those who pull, and nothing more.
    """

    def __init__(self, schema: pa.Schema = SCHEMA) -> None:
        self.schema = schema
        self.pulled = 0
        self._items: list = []
        self._changed = threading.Condition()

    def put(self, *items) -> None:
        """Append batches; None ends it, an exception is raised."""
        with self._changed:
            self._items += items
            self._changed.notify_all()

    def next_batch(self, timeout: float):
        with self._changed:
            self.pulled += 1
            if not self._changed.wait_for(lambda: self._items, timeout):
                raise TimeoutError
            item = self._items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    def __arrow_c_schema__(self):
        return self.schema.__arrow_c_schema__()


class Reading(threading.Thread):
    """A client that reads a stream to its end, and what it got."""

    def __init__(self, location: str, ticket="feed", *, options=None, **client) -> None:
        super().__init__(daemon=True)
        if isinstance(ticket, dict):
            ticket = json.dumps(ticket)
        self.numbers: list[int] = []
        self.metadata: list[dict] = []
        self.error: Exception | None = None
        self._client = flight.connect(location, **client)
        # Returns when the schema is here: by then the server knows that we read.
        self.reader = self._client.do_get(flight.Ticket(ticket), options)
        self.schema = self.reader.schema
        self.start()

    def run(self) -> None:
        try:
            for chunk in self.reader:
                self.numbers += chunk.data.column("n").to_pylist()
                self.metadata.append(json.loads(chunk.app_metadata.to_pybytes()))
        except (pa.ArrowException, flight.FlightError) as error:
            self.error = error
        finally:
            self.reader = None
            self._client.close()

    def done(self) -> Reading:
        self.join(60)
        assert not self.is_alive(), "a client hangs"
        return self


def certificates(folder) -> dict:
    """Make an authority, and a server's and a client's certificate, as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    made = {}
    now = dt.datetime.now(dt.UTC)
    issuer = None
    for name in ("ca", "server", "client", "stranger"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        # Nobody has signed the stranger's but himself.
        own = issuer is None or name == "stranger"
        parent, signer = (subject, key) if own else issuer
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(parent)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("localhost"),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
        )
        if name == "ca":
            issuer = (subject, key)
        certificate = folder / f"{name}.pem"
        private = folder / f"{name}.key"
        certificate.write_bytes(
            builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        made[name] = (certificate, private)
    return made
