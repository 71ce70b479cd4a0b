"""The client's side of a DTLS handshake (RFC 6347, RFC 5764), over whatever carries its records."""

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from benchmarks.load.srtp import Srtp, SrtpProfile

RECORD_HEADER_BYTES = 13
MTU_BYTES = 1200


class Identity(NamedTuple):
    """A certificate and its key, shared by all clients of the load."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as SDP writes it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def make_identity() -> Identity:
    """A fresh self-signed ECDSA certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "load")])
    now = datetime.datetime.now(tz=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    return Identity(builder.sign(key, hashes.SHA256()), key)


class DtlsClient:
    """`step()` until it returns the keys; records go in through `received`, and out of `pending`."""

    def __init__(self, identity: Identity, profile: SrtpProfile) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        # The fingerprint in the SDP is the proof of identity, checked by `step`; there is no chain to verify.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        context.set_tlsext_use_srtp(profile.openssl)
        self._profile = profile
        self._ssl = SSL.Connection(context, None)
        self._ssl.set_connect_state()
        self._ssl.set_ciphertext_mtu(MTU_BYTES)

    def received(self, record: bytes) -> None:
        """A datagram of records from the server."""
        self._ssl.bio_write(record)

    def step(self, fingerprint: str) -> Srtp | None:
        """Go on with the handshake; the SRTP keys once it is done. Raises ConnectionError if it failed."""
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            return None
        except SSL.Error as error:
            raise ConnectionError(f"DTLS: {error}") from error
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        if certificate is None or certificate.fingerprint(hashes.SHA256()).hex(":").upper() != fingerprint:
            raise ConnectionError("DTLS: the server's certificate is not the one in its SDP")
        if self._ssl.get_selected_srtp_profile() != self._profile.openssl:
            raise ConnectionError(f"DTLS: the server does not speak {self._profile.name}")
        length = 2 * (self._profile.key_length + self._profile.salt_length)
        material = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", length, None)
        return Srtp.of_client(self._profile, material)

    def retransmit(self) -> None:
        """Call now and then during the handshake: repeats a flight that got no answer."""
        self._ssl.DTLSv1_handle_timeout()

    def pending(self) -> list[bytes]:
        """Datagrams to send now, one record each."""
        datagrams: list[bytes] = []
        while True:
            try:
                data = self._ssl.bio_read(1 << 16)
            except SSL.WantReadError:
                return datagrams
            while data:
                size = RECORD_HEADER_BYTES + int.from_bytes(data[11:13], "big")
                datagrams.append(data[:size])
                data = data[size:]
