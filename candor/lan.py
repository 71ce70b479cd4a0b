"""Serving the local network: which address to announce, and a self-signed certificate that is made once.

Browsers give pages camera and microphone only over https (or on localhost), so `--lan` needs a certificate.
"""

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ANY_ADDRESS = "0.0.0.0"  # nosec B104  # --lan means to be reachable from the network
CERTIFICATES = Path("~/.local/share/candor/tls")
VALID_DAYS = 825
"""The longest that Apple's browsers accept."""
DOCUMENTATION_ADDRESS = ("192.0.2.1", 9)
"""RFC 5737: never a real host. Connecting a UDP socket to it sends nothing, but picks the address we would send from."""


def local_address() -> str:
    """This computer's address on its network. Raises OSError if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(DOCUMENTATION_ADDRESS)
        return str(sock.getsockname()[0])


def certificate(directory: Path, address: str) -> tuple[Path, Path]:
    """(certificate, key) files for `address` and localhost; made on the first call, and anew when they expire."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    cert_path, key_path = directory / f"{address}.crt", directory / f"{address}.key"
    if not (cert_path.exists() and key_path.exists() and _still_valid(cert_path)):
        _make(cert_path, key_path, address)
    return cert_path, key_path


def _still_valid(path: Path) -> bool:
    try:
        cert = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return False
    return cert.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)


def _make(cert_path: Path, key_path: Path, address: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Candor on {address}")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
