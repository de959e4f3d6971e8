"""What is wrong with a request is said specifically, nothing breaks, and nothing is lost."""

import base64
import pathlib
import socket
import subprocess

import pytest
import pywbem

from conftest import NAMESPACE, PASSWORD, disk
from test_documentation_sample import service_of, virtual_machine

INVALID_PARAMETER = 32773


def create(connection, **arguments):
    return connection.InvokeMethod(
        "CreateVirtualSystemSnapshot", service_of(connection).path, **arguments)


def vm_path(name, class_name="Msvm_ComputerSystem"):
    return pywbem.CIMInstanceName(
        class_name, {"CreationClassName": class_name, "Name": name}, namespace=NAMESPACE)


def test_unknown_virtual_machine(connection, guest):
    code, out = create(connection, SourceSystem=vm_path("00000000-0000-0000-0000-000000000000"))
    assert (code, out.get("Job")) == (INVALID_PARAMETER, None)


def test_host_as_virtual_machine(connection, guest):
    host = [s for s in connection.EnumerateInstances("Msvm_ComputerSystem")
            if s["Caption"] == "Hosting Computer System"]
    assert len(host) == 1
    code, out = create(connection, SourceSystem=host[0].path)
    assert (code, out.get("Job")) == (INVALID_PARAMETER, None)


def test_null_and_missing_source(connection, guest):
    assert create(connection)[0] == INVALID_PARAMETER
    assert create(connection, SourceSystem=pywbem.CIMInstanceName("Msvm_ComputerSystem"))[0] \
        == INVALID_PARAMETER


def test_reference_to_another_class(connection, guest):
    assert create(connection, SourceSystem=service_of(connection).path)[0] == INVALID_PARAMETER


def test_wrong_type(service, connection, guest):
    code, out = create(connection, SourceSystem=pywbem.Uint32(7))
    assert (code, out.get("Job")) == (INVALID_PARAMETER, None)
    # The code alone tells little; our own client is told in words.
    said = service.run("call", service_of(connection).path.to_wbem_uri("cimobject"),
                       "CreateVirtualSystemSnapshot", "SourceSystem=Msvm_ConcreteJob", check=False)
    assert said.returncode == 1
    assert "SourceSystem" in said.stderr


def test_unknown_names(connection, guest):
    with pytest.raises(pywbem.CIMError) as error:
        create(connection, SourceSytem=vm_path("x"))
    assert error.value.status_code == pywbem.CIM_ERR_INVALID_PARAMETER
    for call, status in [
        (lambda: connection.InvokeMethod("TakeSnapshot", service_of(connection).path),
         pywbem.CIM_ERR_METHOD_NOT_FOUND),
        (lambda: connection.EnumerateInstances("Msvm_Nothing"), pywbem.CIM_ERR_INVALID_CLASS),
        (lambda: connection.EnumerateInstances("Msvm_ComputerSystem", namespace="root/nothing"),
         pywbem.CIM_ERR_INVALID_NAMESPACE),
        (lambda: connection.GetInstance(vm_path("nothing")), pywbem.CIM_ERR_NOT_FOUND),
        (lambda: connection.ExecQuery("WQL", "select * fom Msvm_ComputerSystem"),
         pywbem.CIM_ERR_INVALID_QUERY),
        (lambda: connection.ExecQuery("SQL", "select * from Msvm_ComputerSystem"),
         pywbem.CIM_ERR_QUERY_LANGUAGE_NOT_SUPPORTED),
        (lambda: connection.DeleteInstance(vm_path("x")), pywbem.CIM_ERR_NOT_SUPPORTED),
    ]:
        with pytest.raises(pywbem.CIMError) as error:
            call()
        assert error.value.status_code == status
        assert error.value.status_description


def test_foreign_snapshot(service, connection, guest, tmp_path):
    service.run("vm", "create", "owner", "--disk", str(disk(tmp_path / "a.raw", "1M")))
    service.run("vm", "create", "stranger", "--disk", str(disk(tmp_path / "b.raw", "1M")))
    try:
        service.run("snapshot", "create", "owner", "--name", "mine")
        settings = connection.ExecQuery(
            "WQL", "SELECT * FROM Msvm_VirtualSystemSettingData WHERE ElementName = 'mine'")
        code, _ = connection.InvokeMethod(
            "ApplyVirtualSystemSnapshot", service_of(connection).path,
            ComputerSystem=virtual_machine(connection, "stranger").path,
            SnapshotSettingData=settings[0].path)
        assert code == INVALID_PARAMETER
    finally:
        service.run("vm", "delete", "owner")
        service.run("vm", "delete", "stranger")


def test_missing_and_shared_disk_file(service, guest, tmp_path):
    missing = service.run(
        "vm", "create", "nodisk", "--disk", str(tmp_path / "nothing.raw"), check=False)
    assert missing.returncode == 1
    assert "nothing.raw" in missing.stderr
    shared = service.run(
        "vm", "create", "thief", "--disk", str(guest.folder / "data1.raw"), check=False)
    assert shared.returncode == 1
    assert "web01" in shared.stderr
    names = [vm["name"] for vm in service.json("vm", "list")]
    assert "nodisk" not in names and "thief" not in names


def request(body, headers=()):
    token = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    head = ["POST /cimom HTTP/1.1", "Host: localhost", f"Authorization: Basic {token}",
            'Content-Type: application/xml; charset="utf-8"', "CIMOperation: MethodCall",
            "CIMMethod: EnumerateInstances", "CIMObject: root/virtualization", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def answer_to(service, *pieces):
    host, port = service.endpoints["cimxml"].rsplit(":", 1)
    answer = b""
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        try:
            for piece in pieces:
                peer.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while data := peer.recv(65536):
                answer += data
                if b"\r\n\r\n" in answer:
                    break
        except ConnectionResetError:
            pass
    return answer


def memory_kib(service):
    status = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def test_a_megabyte_of_garbage(service, guest):
    garbage = bytes(range(256)) * 4096
    length = f"Content-Length: {len(garbage)}"
    answer = answer_to(service, request(garbage, [length]))
    assert answer.startswith(b"HTTP/1.1 400"), answer[:300]
    assert b"cimerror: request-not-well-formed" in answer.lower()
    answer_to(service, garbage)
    assert service.connect().EnumerateInstanceNames("Msvm_ComputerSystem")


def test_a_request_of_100_megabytes(service, guest):
    before = memory_kib(service)
    body = b" " * (100 << 20)
    declared = answer_to(service, request(body, [f"Content-Length: {len(body)}"]))
    assert declared.startswith(b"HTTP/1.1 413"), declared[:300]
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    chunked = answer_to(
        service, request(b"", ["Transfer-Encoding: chunked"]), *([chunk] * 100), b"0\r\n\r\n")
    assert chunked.startswith(b"HTTP/1.1 413"), chunked[:300]
    grown = memory_kib(service) - before
    assert grown < 64 << 10, f"the service's memory grew by {grown} KiB"
    assert service.connect().EnumerateInstanceNames("Msvm_ComputerSystem")


def test_wrong_password_and_no_rights(service, guest):
    with pytest.raises(pywbem.AuthError):
        service.connect(password="wrong").EnumerateInstanceNames("Msvm_ComputerSystem")
    viewer = service.connect(user="watcher")
    vm = virtual_machine(viewer, guest.name)
    code, out = create(viewer, SourceSystem=vm.path)
    assert (code, out.get("Job")) == (32769, None)


def test_over_tls(service, guest):
    connection = pywbem.WBEMConnection(
        "https://" + service.endpoints["cimxml_tls"], ("admin", PASSWORD),
        default_namespace=NAMESPACE, ca_certs=str(service.data_dir / "tls" / "certificate.pem"))
    assert virtual_machine(connection, guest.name)["ElementName"] == guest.name


def test_usage_errors_exit_with_2(service):
    for arguments in (["snapshot"], ["vm", "create"], ["vm", "create", "x", "--memory", "much"],
                      ["serve", "--cimxml", "0.0.0.0:5988"]):
        done = service.run(*arguments, check=False)
        assert done.returncode == 2, (arguments, done.stderr)
    unknown = service.run("vm", "start", "nothing", check=False)
    assert unknown.returncode == 1
    assert "nothing" in unknown.stderr


def test_an_older_qemu_is_refused(service, tmp_path):
    old = tmp_path / "bin"
    old.mkdir()
    program = old / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.19 (Debian)'\n")
    program.chmod(0o755)
    done = subprocess.run(
        [service.binary, "serve", "--data-dir", tmp_path / "data", "--cimxml", "off",
         "--cimxml-tls", "off", "--wsman", "off", "--wsman-tls", "off"],
        env={"PATH": f"{old}:/usr/bin:/bin"}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "7.2" in done.stderr and "9.0" in done.stderr
