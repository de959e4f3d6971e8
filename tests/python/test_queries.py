"""Queries and paths in every form that V1 clients are known to send."""

import pywbem
import pytest

from v1_client import RESOURCE, SETTINGS, Client, wmi_path

HOSTING = "Microsoft Hosting Computer System"


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


@pytest.fixture(scope="module")
def vm(client):
    vm = client.define("it's queried")
    yield vm
    client.destroy(vm)


@pytest.fixture(scope="module")
def snapshot(client, vm):
    return client.snapshot(vm)


@pytest.fixture(scope="module")
def names(client):
    def found(text):
        return [each["Name"] for each in client.query(text)]
    return found


def test_the_machine_by_every_condition(vm, names):
    own, active = vm["Name"], f"Microsoft:{vm['Name']}"
    for where in (
            "ElementName = 'it\\'s queried'", "ElementName = 'it''s queried'",
            'ElementName = "it\'s queried"', "elementname='IT\\'S QUERIED'",
            f"Name = '{own.lower()}'", f'Name = "{own}"', f"'{own}' = Name",
            f"Name = '{own}' AND NOT Description = '{HOSTING}'",
            f"Name = '{own}' and (EnabledState = '3' or EnabledState = 2)",
            f"Name = '{own}' AND EnabledState >= 3 AND EnabledState < 4",
            f"Name LIKE '{own[:8]}%'", f"Name LIKE '%[{own[0]}]{own[1:4]}____%{own[-4:]}'",
            f"Name = '{own}' AND __CLASS = 'Msvm_ComputerSystem'",
            f"Name = '{own}' AND Name != __SERVER", f"Name = '{own}' AND Name <> __SERVER",
            f"Name = '{own}' AND OtherIdentifyingInfo = NULL",
            f"Name = '{own}' AND OtherIdentifyingInfo IS NULL",
            f"Name = '{own}' AND Caption IS NOT NULL",
            f"Name = '{own}' AND __THIS ISA 'CIM_ComputerSystem'",
    ):
        assert names(f"SELECT * FROM Msvm_ComputerSystem WHERE {where}") == [own], where
        assert names(f"select * from CIM_COMPUTERSYSTEM where {where} ") == [own], where


def test_nothing_is_found(names, vm):
    for where in ("ElementName = 'no such machine'", f"Name <> '{vm['Name']}' AND Name = "
                  f"'{vm['Name']}'", "Name = NULL", "NOT Name LIKE '%'"):
        assert names(f"SELECT * FROM Msvm_ComputerSystem WHERE {where}") == [], where


def test_wrong_queries(client):
    for text, status in (
            ("SELECT * FROM", pywbem.CIM_ERR_INVALID_QUERY),
            ("SELECT * FROM Msvm_ComputerSystem WHERE", pywbem.CIM_ERR_INVALID_QUERY),
            ("SELECT * FROM Msvm_ComputerSystem WHERE (Name = 'x'", pywbem.CIM_ERR_INVALID_QUERY),
            ("SELECT * FROM Msvm_ComputerSystem WHERE Nothing = 1", pywbem.CIM_ERR_INVALID_QUERY),
            ("SELECT * FROM Msvm_Nothing", pywbem.CIM_ERR_INVALID_CLASS),
    ):
        with pytest.raises(pywbem.CIMError) as error:
            client.query(text)
        assert error.value.status_code == status, text


def test_property_lists(client, vm):
    row = client.one("SELECT Name, enabledstate FROM Msvm_ComputerSystem WHERE "
                     f"Name = '{vm['Name']}'")
    assert sorted(name.lower() for name in row.properties) == ["enabledstate", "name"]
    notes = client.query(f"SELECT ElementName, Notes FROM {SETTINGS} WHERE SettingType = 3")
    assert "it's queried" in [each["ElementName"] for each in notes]


def test_paths_as_operands(client, vm):
    drive = client.template("Microsoft Synthetic Disk Drive")
    controller = client.controller(vm)
    host = client.service["SystemName"]
    for raw in (wmi_path(controller.path, host), wmi_path(controller.path, host.lower()),
                wmi_path(controller.path, ".")):
        for written in (raw, raw.replace("\\", "\\\\"), raw.replace("\\", "/")):
            found = client.query(f"SELECT * FROM {RESOURCE} WHERE __PATH = '{written}'")
            assert [each["InstanceID"] for each in found] == [controller["InstanceID"]], written
    for like in (r"%\Default", r"%\\Default", "%Default%", r"%\default"):
        found = client.query(f"SELECT * FROM {RESOURCE} WHERE ResourceSubType = "
                             f"'Microsoft Synthetic Disk Drive' AND InstanceID LIKE '{like}'")
        assert [each["InstanceID"] for each in found] == [drive["InstanceID"]], like
    found = client.query(f"SELECT * FROM {RESOURCE} WHERE ResourceSubType LIKE "
                         "'Microsoft Synthetic Disk Drive' AND InstanceID LIKE "
                         "'Microsoft:Definition%'")
    assert len(found) == 4


def test_associators_of(client, vm, snapshot):
    name = vm["Name"]
    key = f"CreationClassName='Msvm_ComputerSystem',Name='{name}'"
    for path in (f"Msvm_ComputerSystem.{key}",
                 f"msvm_computersystem.{key.replace(name, name.lower())}",
                 f'\\\\.\\root\\virtualization:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="{name}"',
                 f"//./Root/Virtualization:Msvm_ComputerSystem.{key}",
                 f"Msvm_ComputerSystem.Name='{name}'"):
        found = client.query(f"ASSOCIATORS OF {{{path}}} WHERE ResultClass = {SETTINGS} "
                             "AssocClass = Msvm_SettingsDefineState")
        assert [each["InstanceID"] for each in found] == [f"Microsoft:{name}"], path
        found = client.query(f"associators of {{{path}}} where resultclass=msvm_virtualsystemsettingdata "
                             "assocclass=msvm_elementsettingdata role=managedelement "
                             "resultrole=settingdata")
        assert [each["InstanceID"] for each in found] == [snapshot["InstanceID"]], path
        links = client.query(f"REFERENCES OF {{{path}}} WHERE ResultClass = "
                             "Msvm_SettingsDefineState Role = ManagedElement")
        assert [each.classname for each in links] == ["Msvm_SettingsDefineState"], path
    own = client.query(f"ASSOCIATORS OF {{{SETTINGS}.InstanceID='Microsoft:{name}'}} WHERE "
                       f"ResultClass = {RESOURCE.upper()}")
    assert len(own) == 12


def test_partial_and_lower_case_keys(client, vm):
    partial = pywbem.CIMInstanceName(
        "Msvm_VirtualSystemManagementService",
        {"CreationClassName": "Msvm_VirtualSystemManagementService"},
        namespace="Root/Virtualization")
    assert client.connection.GetInstance(partial)["Name"] == "vmms"
    lower = pywbem.CIMInstanceName(
        "MSVM_COMPUTERSYSTEM", {"creationclassname": "msvm_computersystem",
                                "name": vm["Name"].lower()}, namespace="ROOT/virtualization")
    assert client.connection.GetInstance(lower)["Name"] == vm["Name"]
    with pytest.raises(pywbem.CIMError):
        client.connection.GetInstance(pywbem.CIMInstanceName(
            "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem"},
            namespace="root/virtualization"))


def test_the_viewer_sees_what_is_there(service, client, vm):
    watcher = Client(service.connect(user="watcher"))
    assert watcher.one(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm['Name']}'")
    assert len(watcher.resources(watcher.settings(vm))) == 12
