"""The same object has the same values, and the same mistake has the same cause, over every wire."""

import collections
import datetime

import pywbem
import pytest

from conftest import PASSWORD
from dcom_client import ARRAY, INHERITED, Aiowmi, Failed, Impacket, wmi_type
from same_values import CimXml, Row, differences, moved, parse_path, path_text, wmi_cause
from v1_client import Client, image, text

class AiowmiWire:
    """aiowmi shows the type's zero for NULL, takes 0xFFFFFFFF for NULL, inherited arrays of text for
    numbers, and has dates as Python's."""

    def __init__(self, port, smart):
        self.client, self.smart = Aiowmi(port, "admin", PASSWORD), smart

    def __str__(self):
        return "aiowmi, smart" if self.smart else "aiowmi, plain"

    def all_rows(self, class_names):
        return self.client.queries(
            [f"SELECT * FROM {name}" for name in class_names], self.smart, self.row)

    def row(self, class_name, properties):
        types = {name: wmi_type(each.type) for name, each in properties.items()}
        values = {}
        for name, each in properties.items():
            kind, is_array = types[name]
            value = each.value
            if kind == "reference" and value:
                value = parse_path(value)
            elif each.type == ARRAY | INHERITED | 8:
                value = len(value)
            values[name] = value
        keys = [name for name, each in properties.items() if "key" in each.qualifier_set.qualifiers]
        return Row(class_name, values, types, keys, inherited={
            name for name, each in properties.items() if each.type & INHERITED})

    def lens(self, row, name, value, other):
        kind, is_array = row.types[name]
        if is_array:
            if kind == "string" and name in other.inherited:
                return len(value or [])
            return [] if value is None else value
        if value is None or value == 0xFFFFFFFF:
            return {"boolean": False, "string": "", "datetime": "", "reference": ""}.get(kind, 0)
        if kind == "datetime":
            when = pywbem.CIMDateTime(value)
            return when.timedelta if when.is_interval else when.datetime
        return value


class ImpacketWire:
    """impacket shows text for booleans; where a number is NULL it shows the class's filler, but
    says that it is NULL."""

    def __init__(self, session):
        self.session = session

    def __str__(self):
        return "impacket"

    def get(self, path):
        return self.row(self.session.get(path))

    def row(self, instance):
        properties = instance.getProperties()
        types = {name: wmi_type(each["type"]) for name, each in properties.items()}
        values = {}
        for name, each in properties.items():
            kind, is_array = types[name]
            value = None if each["null_default"] else each["value"]
            if value is not None and not is_array:
                value = {"boolean": {"True": True, "False": False}.get,
                         "datetime": lambda text: str(pywbem.CIMDateTime(text)),
                         "reference": parse_path}.get(kind, lambda value: value)(value)
            values[name] = value
        keys = [name for name, each in properties.items() if "key" in each["qualifiers"]]
        return Row(instance.getClassName(), values, types, keys)

    def lens(self, row, name, value, other):
        return value


@pytest.fixture(scope="module")
def world(service, connection, tmp_path_factory):
    """Something of everything: machines off, with disks, jobs and snapshots in a tree."""
    client = Client(connection)
    vm = client.define("same \"values\" \\ over DCOM")
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32))[0] == 0
    disk = image(tmp_path_factory.mktemp("dcom") / "disk.img")
    client.attach(vm, client.controller(vm), 0, str(disk))
    first = client.snapshot(vm)
    client.snapshot(vm)
    client.apply(vm, first)
    yield CimXml(connection)
    client.destroy(vm)


@pytest.fixture(scope="module")
def impacket(service):
    with Impacket(service.dcom_port(), "admin", PASSWORD) as session:
        yield session


def test_every_object_has_the_same_values(service, world, impacket):
    names = world.names()
    wires = [AiowmiWire(service.dcom_port(), smart) for smart in (True, False)]
    before = [world.rows(name) for name in names]
    seen = [wire.all_rows(names) for wire in wires]
    after = [world.rows(name) for name in names]
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
    wire = ImpacketWire(impacket)
    for row in objects.values():
        found = wire.get(path_text(row.class_name, world.path_keys(row)))
        again = world.get(row)
        wrong += differences(wire, [again], [found], moved([row], [again]))
    assert not wrong, "\n".join(wrong[:40])


def test_every_class_refuses_with_the_same_cause(world, impacket):
    """An object of each class that is not there, a method of each that is not there."""
    wrong = []
    for name in world.names():
        keys = {key: "nothing of that name" for key in world.keys(name)}
        if not keys or any(kind == "reference" for kind in world.key_types(name)):
            # No key can be made up.
            keys = {"NoSuchKey": "x"}
        uri = pywbem.CIMInstanceName(name, keys, namespace="root/virtualization")
        asked = {
            "get": (lambda: world.connection.GetInstance(uri),
                    lambda: impacket.get(path_text(name, keys))),
            "method": (lambda: world.connection.InvokeMethod("NoSuchMethod", uri),
                       lambda: impacket.execute(path_text(name, keys), "NoSuchMethod"))}
        for what, (cim, dcom) in asked.items():
            with pytest.raises(pywbem.CIMError) as expected:
                cim()
            with pytest.raises(Failed) as found:
                dcom()
            right, other = world.cause(expected.value), wmi_cause(found.value.code)
            if right != other:
                wrong.append(f"{what} {name}: {other}, not {right}")
    assert not wrong, "\n".join(wrong)


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
def test_queries_are_refused_for_the_same_cause(world, impacket, text):
    def cause(ask):
        try:
            return len(ask())
        except pywbem.CIMError as error:
            return world.cause(error)
        except Failed as error:
            return wmi_cause(error.code)

    assert cause(lambda: impacket.query(text)) == cause(
        lambda: world.connection.ExecQuery("WQL", text))
