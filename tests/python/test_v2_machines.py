"""Machines by V2's calls: defined, furnished with disks, described, changed, run and destroyed."""

import pywbem
import pytest

from v1_client import image, wmi_path
from v2_client import (
    DISABLED, ENABLED, OFFLINE, QUIESCE, REALIZED, RESET, SETTINGS, V1, V2, Client, embedded)

GENERIC = "Msvm_ResourceAllocationSettingData"
STORAGE = "Msvm_StorageAllocationSettingData"


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


def v2_path(path):
    return wmi_path(path).replace("root\\virtualization:", "root\\virtualization\\v2:")


def add(client, system, given):
    code, out = client.call(
        "AddResourceSettings", AffectedConfiguration=client.settings(system).path,
        ResourceSettings=[given])
    assert code == 0, code
    added, = out["ResultingResourceSettings"]
    return client.connection.GetInstance(added)


def with_disk(client, file):
    """A small machine with one disk, as libvirt's driver and os-win make it."""
    system = client.define()
    settings = client.settings(system)
    memory = client.resources(settings, "Msvm_MemorySettingData")[0]
    code, _ = client.call("ModifyResourceSettings", ResourceSettings=[
        embedded("Msvm_MemorySettingData", InstanceID=memory["InstanceID"], VirtualQuantity=32)])
    assert code == 0
    controller = [each for each in client.resources(settings, GENERIC)
                  if each["ResourceType"] == 5 and each["Address"] == "0"][0]
    drive = add(client, system, embedded(
        GENERIC, ResourceType=17, ResourceSubType="Microsoft:Hyper-V:Synthetic Disk Drive",
        Parent=v2_path(controller.path), AddressOnParent="0"))
    medium = add(client, system, embedded(
        STORAGE, ResourceType=31, ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk",
        Parent=v2_path(drive.path), HostResource=[str(file)]))
    return system, drive, medium


def test_a_machine_from_definition_to_destruction(client, tmp_path):
    file = image(tmp_path / "disk.img")
    system, drive, medium = with_disk(client, file)
    assert (drive["AddressOnParent"], drive["Address"]) == ("0", None)
    assert (medium["HostResource"], medium["ResourceType"]) == ([str(file)], 31)
    # V1 has the same disk in its own words.
    old = client.one("SELECT * FROM Msvm_ResourceAllocationSettingData WHERE InstanceID = "
                     f"'{medium['InstanceID']}'".replace("\\", "\\\\"), V1)
    assert (old["Connection"], old["ResourceType"]) == ([str(file)], 21)

    client.ends(client.request(system, ENABLED))
    assert client.state(system) == ENABLED
    assert client.request(system, ENABLED)[0] == 32775
    client.ends(client.request(system, QUIESCE))
    assert client.state(system) == QUIESCE
    old = client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{system['Name']}'", V1)
    assert old["EnabledState"] == 32768
    client.ends(client.request(system, ENABLED))
    client.ends(client.request(system, RESET))
    client.ends(client.request(system, OFFLINE))
    assert client.state(system) == OFFLINE
    client.ends(client.request(system, ENABLED))
    job = client.ends(client.request(system, DISABLED))
    assert job["JobType"] == 13

    code, _ = client.call("RemoveResourceSettings", ResourceSettings=[medium.path, drive.path])
    assert code == 0
    assert client.resources(client.settings(system), STORAGE) == []
    job = client.destroy(system)
    assert job["JobType"] == 3
    for namespace in (V1, V2):
        assert client.query("SELECT * FROM Msvm_ComputerSystem WHERE Name = "
                            f"'{system['Name']}'", namespace) == []


def test_settings_are_changed_and_described(client):
    system = client.define("before")
    settings = client.settings(system)
    code, _ = client.call("ModifySystemSettings", SystemSettings=embedded(
        SETTINGS, InstanceID=settings["InstanceID"], ElementName="after",
        AutomaticStartupAction=4))
    assert code == 0
    assert client.connection.GetInstance(system.path)["ElementName"] == "after"
    assert client.settings(system)["AutomaticStartupAction"] == 4
    code, out = client.call(
        "GetSummaryInformation", SettingData=[settings.path],
        RequestedInformation=[pywbem.Uint32(each) for each in (0, 1, 4, 100, 105)])
    assert code == 0
    summary, = out["SummaryInformation"]
    assert summary.classname == "Msvm_SummaryInformation"
    assert summary["Name"] == system["Name"] and summary["ElementName"] == "after"
    assert (summary["NumberOfProcessors"], summary["EnabledState"], summary["UpTime"]) == \
        (1, DISABLED, 0)
    client.destroy(system)


def test_machines_are_found_as_clients_ask(client):
    system = client.define()
    name, id = system["ElementName"], system["Name"]
    found = client.one("SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND "
                       f"Name = '{id.lower()}' ")
    assert found["ElementName"] == name
    found = client.one(f"SELECT ElementName, Notes FROM {SETTINGS} WHERE VirtualSystemType = "
                       f"'{REALIZED}' AND ElementName = '{name}'")
    assert found["ElementName"] == name
    found, = client.query(
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',"
        f"Name='{id}'}} WHERE AssocClass = Msvm_SettingsDefineState ResultClass = {SETTINGS}")
    assert found["VirtualSystemIdentifier"] == id
    found = client.query(f"SELECT * FROM CIM_ResourceAllocationSettingData WHERE InstanceID LIKE "
                         f"'Microsoft:{id}%'")
    assert {"Msvm_ResourceAllocationSettingData", "Msvm_MemorySettingData"} <= \
        {each.classname for each in found}
    default = client.one(
        "SELECT * FROM Msvm_ResourceAllocationSettingData WHERE ResourceSubType = "
        "'Microsoft:Hyper-V:Physical Disk Drive' AND InstanceID LIKE '%%Default%%'")
    assert default["ResourceType"] == 17
    most = client.one("SELECT * FROM Msvm_ProcessorSettingData WHERE InstanceID LIKE "
                      "'Microsoft:Definition%Maximum'")
    assert most["VirtualQuantity"] >= 1
    client.destroy(system)


def test_capabilities_are_told(client):
    able = lambda of: client.connection.Associators(
        of, AssocClass="Msvm_ElementCapabilities")
    service, = able(client.service.path)
    assert service.classname == "Msvm_VirtualSystemManagementCapabilities"
    assert {2, 5, 6, 7, 10} <= set(service["SynchronousMethodsSupported"])
    assert service["AsynchronousMethodsSupported"] == [3, 9]
    system = client.define()
    machine, = able(system.path)
    assert machine.classname == "Msvm_VirtualSystemCapabilities"
    assert set(machine["RequestedStatesSupported"]) == {2, 3, 4, 6, 9, 10, 11}
    again = client.connection.GetInstance(machine.path)
    assert again["InstanceID"] == machine["InstanceID"]
    back = client.connection.AssociatorNames(
        machine.path, AssocClass="Msvm_ElementCapabilities", ResultClass="Msvm_ComputerSystem")
    assert system["Name"] in [path["Name"] for path in back]
    client.destroy(system)


def test_refusals(client):
    def define(**settings):
        return client.call("DefineSystem", SystemSettings=embedded(SETTINGS, **settings))[0]

    assert define(ElementName="x", VirtualSystemSubType="Microsoft:Hyper-V:SubType:2") == 1
    assert define(ElementName="x", AutomaticStartupAction=1) == 4
    assert client.call("DefineSystem", SystemSettings=embedded(
        "Msvm_MemorySettingData", VirtualQuantity=1))[0] == 4
    assert client.call("AddKvpItems", TargetSystem=client.service.path, DataItems=[])[0] in \
        (32770, 32773)
    assert client.call("DestroySystem")[0] == 4
