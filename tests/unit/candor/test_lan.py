"""The certificate of `--lan`."""

import ssl
from pathlib import Path

from cryptography import x509

from candor import lan


def test_a_certificate_is_made_once_and_works(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    cert, key = lan.certificate(directory, "192.0.2.7")
    assert key.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    first = cert.read_bytes()
    assert lan.certificate(directory, "192.0.2.7") == (cert, key)
    assert cert.read_bytes() == first
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def test_a_damaged_certificate_is_made_anew(tmp_path: Path) -> None:
    cert, _ = lan.certificate(tmp_path, "192.0.2.7")
    cert.write_text("not a certificate")
    cert, key = lan.certificate(tmp_path, "192.0.2.7")
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
