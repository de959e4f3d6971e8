"""Logging on to WS-Management by client certificates: accounts that have them, as pypsrp and bare
HTTPS use them."""

import base64
import datetime
import http.client
import ssl

import pytest
from conftest import PASSWORD
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pypsrp.exceptions import AuthenticationError
from test_wsman_clients import Client, text

PROFILE = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
DAY = datetime.timedelta(days=1)
MACHINES = "SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'"


class Pair:
    """A certificate that signs itself, and its key, as files."""

    def __init__(self, folder, name, start=-DAY, end=DAY, key=None):
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (x509.CertificateBuilder().subject_name(names).issuer_name(names)
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(now + start).not_valid_after(now + end)
                .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()))
        self.fingerprint = made.fingerprint(hashes.SHA256()).hex()
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))

    def client(self, service):
        return Client(service, auth="certificate", user=None, password=None, tls=True,
                      certificate_pem=str(self.certificate), certificate_key_pem=str(self.key))


class Bare:
    """One connection, whatever is answered."""

    def __init__(self, service, pair, version):
        host, port = service.endpoints["wsman_tls"].rsplit(":", 1)
        context = ssl.create_default_context(
            cafile=str(service.data_dir / "tls" / "certificate.pem"))
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(pair.certificate, pair.key)
        self.connection = http.client.HTTPSConnection(host, int(port), timeout=60,
                                                      context=context)
        self.connection.connect()
        self.socket = self.connection.sock

    def ask(self, authorization=PROFILE):
        """Status and text of a logon without a message, always over the same connection."""
        headers = {"Authorization": authorization} if authorization else {}
        self.connection.request("POST", "/wsman", b"", headers)
        answer = self.connection.getresponse()
        answered = answer.status, answer.read().decode()
        assert self.connection.sock is self.socket, "the connection was closed"
        return answered


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def laptop(service, folder):
    """An administrator that has a certificate and no password."""
    pair = Pair(folder, "laptop", key=rsa.generate_private_key(65537, 2048))
    service.run("account", "add", "laptop", "--role", "administrator",
                "--certificate", str(pair.certificate))
    return pair


@pytest.fixture
def machine(service):
    service.run("vm", "create", "certified", "--memory", "64M")
    yield "certified"
    service.run("vm", "delete", "certified")


def snapshot(client, machine):
    """What the method returns."""
    found, = client.query(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{machine}'")
    name = "Msvm_VirtualSystemManagementService"
    answer = client.call(
        name, "CreateVirtualSystemSnapshot", {"CreationClassName": name},
        SourceSystem='Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",'
                     f'Name="{text(found, "Name")}"')
    return int(text(answer, "ReturnValue"))


def test_a_certificate_is_its_account(service, folder, laptop, machine):
    administrator = laptop.client(service)
    assert snapshot(administrator, machine) in (0, 4096)
    pair = Pair(folder, "reading")
    service.run("account", "add", "reading", "--role", "viewer",
                "--certificate", str(pair.certificate))
    viewer = pair.client(service)
    assert len(viewer.query(MACHINES)) == len(administrator.query(MACHINES)) > 0
    assert snapshot(viewer, machine) == 32769
    log = (service.data_dir.parent / "serve.log").read_text()
    told = [line for line in log.splitlines() if "logged on by a certificate" in line]
    assert any("laptop" in line and laptop.fingerprint in line for line in told)
    # There is no password that would do.
    for password in ("", PASSWORD):
        with pytest.raises(AuthenticationError):
            Client(service, user="laptop", password=password).query(MACHINES)


def test_certificates_of_strangers_are_refused(service, folder, laptop):
    stranger = Pair(folder, "stranger")
    with pytest.raises(AuthenticationError):
        stranger.client(service).query(MACHINES)
    # The same name helps nobody: it is the certificate that counts.
    (folder / "other").mkdir()
    with pytest.raises(AuthenticationError):
        Pair(folder / "other", "laptop").client(service).query(MACHINES)
    bare = Bare(service, stranger, ssl.TLSVersion.TLSv1_3)
    assert bare.ask() == (401, "The certificate belongs to no account.")
    assert stranger.fingerprint in service.tail()
    # But whoever has a password may use it.
    assert bare.ask("Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode())[0] == 200
    # And a certificate is no logon unless it is said to be one.
    assert Bare(service, laptop, ssl.TLSVersion.TLSv1_3).ask(None)[0] == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_becomes_of_certificate_and_account_holds_on_open_connections(
        service, folder, version):
    one, two = Pair(folder, f"one{version}"), Pair(folder, f"two{version}")
    name = f"passing{version}"
    service.run("account", "add", name, "--role", "viewer",
                "--certificate", str(one.certificate), "--certificate", str(two.certificate))
    first, second = Bare(service, one, version), Bare(service, two, version)
    assert first.ask()[0] == second.ask()[0] == 200
    service.run("account", "certificate", name, "--remove", one.fingerprint.upper())
    assert first.ask() == (401, "The certificate belongs to no account.")
    assert second.ask()[0] == 200
    service.run("account", "certificate", name, "--add", str(one.certificate))
    assert first.ask()[0] == 200
    service.run("account", "remove", name)
    assert first.ask()[0] == second.ask()[0] == 401
    # It counts as a success, so that no later test has to wait for these failures.
    assert first.ask("Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode())[0] == 200


@pytest.mark.parametrize("key", [
    rsa.generate_private_key(65537, 3072), ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate(),
], ids=["rsa", "p256", "p384", "ed25519"])
def test_keys_of_every_kind_log_on(service, folder, key, request):
    name = request.node.callspec.id
    pair = Pair(folder, name, key=key)
    service.run("account", "add", name, "--role", "viewer", "--certificate",
                str(pair.certificate))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert Bare(service, pair, version).ask() == (200, "")


def test_certificates_hold_only_within_their_dates(service, folder):
    over = Pair(folder, "over", start=-2 * DAY, end=-DAY)
    early = Pair(folder, "early", start=DAY, end=2 * DAY)
    service.run("account", "add", "dated", "--role", "viewer", "--certificate",
                str(over.certificate), "--certificate", str(early.certificate))
    for pair, cause in ((over, "was valid until 20"), (early, "is not valid before 20")):
        status, said = Bare(service, pair, ssl.TLSVersion.TLSv1_3).ask()
        assert (status, cause in said) == (401, True), said
        with pytest.raises(AuthenticationError):
            pair.client(service).query(MACHINES)


def test_certificates_are_listed_and_belong_to_one_account(service, folder, laptop):
    accounts = {it["name"]: it for it in service.json("account", "list")}
    assert accounts["laptop"]["certificates"] == [laptop.fingerprint]
    assert accounts["laptop"]["password"] is False
    assert accounts["admin"]["password"] is True
    shown, = service.json("account", "certificate", "laptop")
    assert (shown["fingerprint"], shown["subject"]) == (laptop.fingerprint, "laptop")
    assert shown["not_before"] < shown["not_after"]
    refused = service.run("account", "certificate", "watcher", "--add", str(laptop.certificate),
                          check=False)
    assert refused.returncode == 1 and "account laptop already" in refused.stderr
    # Nobody could prove to have the key.
    strange = Pair(folder, "strange", key=ec.generate_private_key(ec.SECP521R1())).certificate
    for wrong in (laptop.key, folder / "missing", strange):
        refused = service.run("account", "certificate", "laptop", "--add", str(wrong),
                              check=False)
        assert refused.returncode == 2 and str(wrong) in refused.stderr
    refused = service.run("account", "add", "nobody", "--role", "viewer", check=False)
    assert refused.returncode == 2 and "--password-file" in refused.stderr
