"""The same object has the same values, and the same mistake has the same cause, over every wire and
in every namespace."""

import collections

import pywbem
import pytest

from conftest import PASSWORD
from dcom_client import INVALID_OBJECT_PATH, Failed, Impacket
from same_values import CimXml, differences, moved, path_text, wmi_cause
from v1_client import Client, image, text
from wires import AiowmiWire, ImpacketWire, PypsrpWire, Refused


@pytest.fixture(scope="module")
def machine(connection, tmp_path_factory):
    """Something of everything: a machine that is off, with a disk, jobs and snapshots in a tree."""
    client = Client(connection)
    vm = client.define("same \"values\" \\ over every wire")
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32))[0] == 0
    disk = image(tmp_path_factory.mktemp("same") / "disk.img")
    client.attach(vm, client.controller(vm), 0, str(disk))
    first = client.snapshot(vm)
    client.snapshot(vm)
    client.apply(vm, first)
    yield vm
    client.destroy(vm)


@pytest.fixture(scope="module", params=["root/virtualization", "root/virtualization/v2"])
def world(request, service, machine):
    return CimXml(service.connect(), request.param)


@pytest.fixture(scope="module")
def impacket(service, world):
    with Impacket(service.dcom_port(), "admin", PASSWORD, f"//./{world.namespace}") as session:
        yield ImpacketWire(session)


@pytest.fixture(scope="module")
def pypsrp(service, world):
    return PypsrpWire(service, world)


def test_every_object_has_the_same_values(service, world, impacket, pypsrp):
    names = world.names()
    wires = [AiowmiWire(service, world.namespace, smart) for smart in (True, False)] + [pypsrp]
    before = [world.rows(name) for name in names]
    seen = [wire.all_rows(names) for wire in wires]
    # What was not there does not change.
    after = [rows and world.rows(name) for name, rows in zip(names, before)]
    wrong = []
    for number, _ in enumerate(names):
        changing = moved(before[number], after[number])
        for wire, answers in zip(wires, seen):
            wrong += differences(wire, before[number], answers[number], changing)
    assert not wrong, "\n".join(wrong[:40])
    # One object of each class, got by its path.
    objects = collections.OrderedDict(
        (row.class_name, row) for rows in after for row in rows)
    assert len(objects) >= 30
    for row in objects.values():
        keys = world.path_keys(row)
        found = [(impacket, impacket.get(path_text(row.class_name, keys)))]
        if not world.has_references_for_keys(row.class_name):
            found.append((pypsrp, pypsrp.get(row.class_name, keys)))
        again = world.get(row)
        for wire, other in found:
            wrong += differences(wire, [again], [other], moved([row], [again]))
    assert not wrong, "\n".join(wrong[:40])


def cause(world, ask):
    """Why something is refused; how many objects it gives, if it is not."""
    try:
        answer = ask()
    except pywbem.CIMError as error:
        return world.cause(error)
    except Failed as error:
        return wmi_cause(error.code)
    except Refused as error:
        return error.cause
    return len(answer) if isinstance(answer, list) else "not refused"


def unlike(world, what, *ways):
    """What is told for the same mistake, if it is not the same."""
    causes = [cause(world, way) for way in ways]
    return [f"{what}: {causes}"] if len(set(causes)) > 1 or causes[0] == "not refused" else []


def test_every_class_refuses_with_the_same_cause(world, impacket, pypsrp):
    """An object of each class that is not there, a method of each that is not there."""
    wrong = []
    for name in world.names():
        keys = {key: "nothing of that name" for key in world.keys(name)}
        if not keys or world.has_references_for_keys(name):
            # No key can be made up.
            keys = {"NoSuchKey": "x"}
        uri = pywbem.CIMInstanceName(name, keys, namespace=world.namespace)
        path = path_text(name, keys)
        wrong += unlike(world, f"get {name}",
                        lambda: world.connection.GetInstance(uri),
                        lambda: impacket.get(path),
                        lambda: pypsrp.get(name, keys))
        wrong += unlike(world, f"method of {name}",
                        lambda: world.connection.InvokeMethod("NoSuchMethod", uri),
                        lambda: impacket.call(path, "NoSuchMethod"))
    assert not wrong, "\n".join(wrong)


def test_calls_are_refused_for_the_same_cause(world, impacket, pypsrp):
    management = world.rows("Msvm_VirtualSystemManagementService")[0]
    service, keys = management.class_name, world.path_keys(management)
    machine = {"CreationClassName": "Msvm_ComputerSystem"}
    computer = "Msvm_ComputerSystem"
    define, destroy, parameter = {
        "root/virtualization": ("DefineVirtualSystem", "DestroyVirtualSystem", "ComputerSystem"),
        "root/virtualization/v2": ("DefineSystem", "DestroySystem", "AffectedSystem"),
    }[world.namespace]
    wrong = []
    for what, class_name, given, method, like, parameters in [
            ("no such class", "NoSuchClass", {"Name": "x"}, define, None, {}),
            ("no such object", service, {**keys, "Name": "x"}, define, None, {}),
            ("wrong key", service, {"NoSuchKey": "x"}, define, None, {}),
            ("no such method", service, keys, "NoSuchMethod", None, {}),
            ("several objects", computer, machine, "RequestStateChange", None, {}),
            ("no such parameter", service, keys, define, destroy, {parameter: ""}),
    ]:
        uri = pywbem.CIMInstanceName(class_name, given, namespace=world.namespace)
        path = path_text(class_name, given)
        wrong += unlike(world, what,
                        lambda: world.connection.InvokeMethod(method, uri, **parameters),
                        lambda: impacket.call(path, method, like),
                        lambda: pypsrp.call(class_name, given, method, parameters))
    for what, class_name, given in [
            ("get: no such class", "NoSuchClass", {"Name": "x"}),
            ("get: wrong key", service, {"NoSuchKey": "x"}),
            ("get: several objects", computer, machine)]:
        uri = pywbem.CIMInstanceName(class_name, given, namespace=world.namespace)
        wrong += unlike(world, what,
                        lambda: world.connection.GetInstance(uri),
                        lambda: impacket.get(path_text(class_name, given)),
                        lambda: pypsrp.get(class_name, given))
    path = path_text(service, keys)
    wrong += unlike(world, "delete",
                    lambda: world.connection.DeleteInstance(management.uri),
                    lambda: impacket.delete(path),
                    lambda: pypsrp.delete(service, keys))
    assert not wrong, "\n".join(wrong)
    # It is the path that is wrong, not a parameter.
    several = path_text(computer, machine)
    for ask in [lambda: impacket.get(several),
                lambda: impacket.call(several, "RequestStateChange")]:
        with pytest.raises(Failed) as refused:
            ask()
        assert refused.value.code == INVALID_OBJECT_PATH


@pytest.mark.parametrize("text", [
    "SELECT * FROM NoSuchClass",
    "SELECT NoSuchProperty FROM Msvm_ComputerSystem",
    "SELECT * FROM Msvm_ComputerSystem WHERE NoSuchProperty = 1",
    "SELECT * FROM Msvm_ComputerSystem WHERE",
    "not a query",
    "",
    "ASSOCIATORS OF {Msvm_ComputerSystem.Name='nothing',CreationClassName='Msvm_ComputerSystem'}",
    "ASSOCIATORS OF {NoSuchClass.Name='nothing'}",
    "ASSOCIATORS OF {Msvm_ComputerSystem",
    "SELECT * FROM Msvm_ComputerSystem WHERE EnabledState = 'text'",
])
def test_queries_are_refused_for_the_same_cause(world, impacket, pypsrp, text):
    wrong = unlike(world, text or "nothing",
                   lambda: world.connection.ExecQuery("WQL", text),
                   lambda: impacket.session.query(text),
                   lambda: pypsrp.query(text))
    assert not wrong, wrong


def test_namespaces_that_are_not_there_are_said_to_be_not_there(service, world, pypsrp):
    nowhere = CimXml(service.connect(), "root/nowhere")
    wrong = unlike(world, "namespace",
                   lambda: nowhere.rows("Msvm_ComputerSystem"),
                   lambda: Impacket(service.dcom_port(), "admin", PASSWORD, "//./root/nowhere"),
                   lambda: PypsrpWire(service, nowhere).query("SELECT * FROM Msvm_ComputerSystem"))
    assert not wrong, wrong
