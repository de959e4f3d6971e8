"""Machines as nova's V1 driver makes, changes and ends them."""

import pywbem
import pytest

from v1_client import (
    COMPLETED, DISABLED, ENABLED, INVALID_PARAMETER, INVALID_STATE, IN_USE, OFF, PAUSE, PAUSED, RESET,
    RESOURCE, RUN, SAVE, SETTINGS, SUSPENDED, Client, image, text, wmi_path)


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


@pytest.fixture(scope="module")
def folder(service):
    folder = service.data_dir.parent / "machines"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def small(client, folder):
    """Off, no disk: its firmware runs when it is started."""
    vm = client.define("small machine", AutomaticStartupAction=0,
                       ExternalDataRoot=str(folder), SnapshotDataRoot=str(folder))
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32, Reservation=32, Limit=32))[0] == 0
    yield vm


def test_a_new_machine(client, small, folder):
    assert small["Caption"] == "Virtual Machine"
    assert small["EnabledState"] == DISABLED
    assert small["RequestedState"] == 12
    assert small["OperationalStatus"] == [2]
    assert small["HealthState"] == 5
    assert small["Name"] == small["Name"].upper() and len(small["Name"]) == 36
    settings = client.settings(small)
    assert settings["InstanceID"] == f"Microsoft:{small['Name']}"
    assert settings["SystemName"] == small["Name"]
    assert settings["VirtualSystemType"] == 301
    assert settings["BootOrder"] == [0, 1, 2, 3]
    assert settings["Description"] == "Active settings for the virtual machine"
    everything = client.connection.Associators(
        small.path, ResultClass="Msvm_VirtualSystemGlobalSettingData")[0]
    assert everything["InstanceID"] == f"Microsoft:{small['Name']}\\Global"
    assert everything["SettingType"] == 32768
    assert everything["ExternalDataRoot"] == str(folder)
    assert everything["AutomaticStartupAction"] == 0
    assert [each["ResourceSubType"] for each in client.resources(settings)] == [
        "Microsoft Virtual Keyboard", "Microsoft Virtual PS2 Mouse",
        "Microsoft S3 Display Controller", "Microsoft Synthetic Diskette Drive", None,
        "Microsoft Serial Controller", "Microsoft Serial Port", "Microsoft Serial Port",
        "Microsoft Emulated IDE Controller", "Microsoft Emulated IDE Controller",
        "Microsoft Synthetic Mouse", "Microsoft Synthetic Display Controller"]


def test_renaming_and_notes(client):
    vm = client.define()
    settings = client.settings(vm)
    code, out = client.call("ModifyVirtualSystem", ComputerSystem=vm.path,
                            SystemSettingData=text(settings, ElementName="renamed",
                                                   Notes="one\ntwo"))
    assert (code, out.get("Job")) == (COMPLETED, None)
    assert client.settings(vm)["Notes"] == "one\ntwo"
    assert client.connection.GetInstance(vm.path)["ElementName"] == "renamed"
    mof = f"""instance of {SETTINGS}
{{
    InstanceID = "{settings['InstanceID']}";
    ElementName = "from mof";
}};"""
    code, _ = client.call("ModifyVirtualSystem", ComputerSystem=vm.path, SystemSettingData=mof)
    assert code == COMPLETED
    assert client.connection.GetInstance(vm.path)["ElementName"] == "from mof"
    assert client.settings(vm)["Notes"] == "one\ntwo"
    cdata = ('<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData"><PROPERTY NAME="InstanceID" '
             f'TYPE="string"><VALUE><![CDATA[{settings["InstanceID"]}]]></VALUE></PROPERTY>'
             '<PROPERTY NAME="ElementName" TYPE="string"><VALUE><![CDATA[a<b]]></VALUE>'
             "</PROPERTY></INSTANCE>")
    assert client.call("ModifyVirtualSystem", ComputerSystem=vm.path,
                       SystemSettingData=cdata)[0] == COMPLETED
    assert client.connection.GetInstance(vm.path)["ElementName"] == "a<b"
    long = text(settings, ElementName="x" * 101)
    assert client.call("ModifyVirtualSystem", ComputerSystem=vm.path,
                       SystemSettingData=long)[0] == INVALID_PARAMETER


def test_memory_and_processors(client):
    vm = client.define()
    settings = client.settings(vm)
    memory, = client.resources(settings, "Msvm_MemorySettingData")
    processor, = client.resources(settings, "Msvm_ProcessorSettingData")
    assert memory["VirtualQuantity"] == 512 and memory["Weight"] == 5000
    assert processor["VirtualQuantity"] == 1 and processor["Weight"] == 100
    code, out = client.modify(
        vm, text(memory, VirtualQuantity=64, Reservation=64, Limit=64, DynamicMemoryEnabled=False),
        text(processor, VirtualQuantity=2, Reservation=2, Limit=100000))
    assert (code, out.get("Job")) == (COMPLETED, None)
    assert client.connection.GetInstance(memory.path)["VirtualQuantity"] == 64
    assert client.connection.GetInstance(processor.path)["VirtualQuantity"] == 2
    # All or nothing: the second is impossible, the first stays as it was.
    code, _ = client.modify(vm, text(memory, VirtualQuantity=128),
                            text(processor, VirtualQuantity=100000))
    assert code == INVALID_PARAMETER
    assert client.connection.GetInstance(memory.path)["VirtualQuantity"] == 64


@pytest.mark.parametrize("kind, ending", [
    ("raw", "img"), ("qcow2", "qcow2"), ("vpc", "vhd"), ("vhdx", "vhdx")])
def test_ide_disks_of_every_kind(client, folder, kind, ending):
    vm = client.define()
    file = str(image(folder / f"ide.{ending}", kind, "2M"))
    drive, disk = client.attach(vm, client.controller(vm), 0, file)
    own = f"Microsoft:{vm['Name']}\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0\\0\\"
    assert drive["InstanceID"] == own + "D"
    assert disk["InstanceID"] == own + "L"
    assert disk["Connection"] == [file]
    assert disk["Parent"].endswith(wmi_path(drive.path).split(":", 1)[1])
    parent = wmi_path(client.controller(vm).path, client.service["SystemName"])
    assert len(client.query(f"SELECT * FROM {RESOURCE} WHERE Parent = '{parent}'")) == 1
    # The slot is taken; the drive cannot go before its medium.
    code, _ = client.call("AddVirtualSystemResources", TargetSystem=vm.path, ResourceSettingData=[
        text(client.template("Microsoft Synthetic Disk Drive"),
             Parent=wmi_path(client.controller(vm).path), Address=0)])
    assert code == INVALID_PARAMETER
    found = client.query(f"SELECT * FROM {RESOURCE} WHERE __PATH = '{wmi_path(disk.path)}'")
    assert [each["InstanceID"] for each in found] == [disk["InstanceID"]]
    assert client.remove(vm, disk.path)[0] == COMPLETED
    assert client.remove(vm, drive.path)[0] == COMPLETED
    assert len(client.resources(client.settings(vm))) == 12
    client.destroy(vm)
    assert (folder / f"ide.{ending}").exists()


def test_scsi_and_dvd(client, folder):
    vm = client.define()
    controller, = client.add(vm, text(client.template("Microsoft Synthetic SCSI Controller"),
                                      VirtualSystemIdentifiers=["{" + vm["Name"].lower() + "}"]))
    assert controller["InstanceID"].endswith("\\0")
    for slot in (0, 1, 63):
        _, disk = client.attach(vm, controller, slot, str(image(folder / f"scsi{slot}.img")))
    client.attach(vm, client.controller(vm, "1"), 0, str(image(folder / "some.iso")),
                  "Microsoft Synthetic DVD Drive", "Microsoft Virtual CD/DVD Disk")
    parent = wmi_path(controller.path, client.service["SystemName"])
    on_it = client.query(f"SELECT * FROM {RESOURCE} WHERE (ResourceSubType = 'Microsoft Synthetic "
                         "Disk Drive' OR ResourceSubType = 'Microsoft Synthetic DVD Drive') AND "
                         f"Parent='{parent}'")
    assert sorted(each["Address"] for each in on_it) == ["0", "1", "63"]
    assert client.resources(client.settings(vm))[-1]["InstanceID"] == controller["InstanceID"]
    before = len(client.resources(client.settings(vm)))
    # All or nothing: one of them is not there.
    gone = controller.path.copy()
    gone.keybindings["InstanceID"] += "1"
    code, _ = client.remove(vm, disk.path, gone)
    assert code == INVALID_PARAMETER
    assert len(client.resources(client.settings(vm))) == before
    missing = text(client.template("Microsoft Virtual Hard Disk"), Connection=["/nowhere/x.vhd"],
                   Parent=wmi_path(on_it[0].path))
    code, _ = client.call("AddVirtualSystemResources", TargetSystem=vm.path,
                          ResourceSettingData=[missing])
    assert code == INVALID_PARAMETER
    client.destroy(vm)


def test_serial_port_connection(client, folder):
    vm = client.define()
    port = [each for each in client.resources(client.settings(vm))
            if each["ResourceSubType"] == "Microsoft Serial Port"][0]
    connection = [str(folder / "com1.sock")]
    assert client.modify(vm, text(port, Connection=connection))[0] == COMPLETED
    assert client.connection.GetInstance(port.path)["Connection"] == connection
    client.destroy(vm)


def test_states(client, small):
    def same(state):
        code, out = client.request(small, state)
        assert (code, out.get("Job")) == (INVALID_STATE, None), (state, code)

    def brought(state, now, says):
        job = client.bring(small, state)
        assert job["Description"] == says
        assert client.state(small) == now
        vm = client.connection.GetInstance(small.path)
        assert (vm["RequestedState"], vm["OperationalStatus"]) == (12, [2])

    same(OFF)
    same(SAVE)
    same(PAUSE)
    same(RESET)
    brought(RUN, ENABLED, "Initializing and Starting Virtual Machine")
    same(RUN)
    code, _ = client.call("DestroyVirtualSystem", ComputerSystem=small.path)
    assert code == INVALID_STATE
    brought(PAUSE, PAUSED, "Pausing Virtual Machine")
    same(PAUSE)
    code, out = client.begin_snapshot(small)
    assert (code, out.get("Job")) == (INVALID_STATE, None)
    brought(RUN, ENABLED, "Resuming Virtual Machine")
    brought(RESET, ENABLED, "Resetting Virtual Machine")
    brought(SAVE, SUSPENDED, "Saving Virtual Machine")
    same(SAVE)
    brought(RUN, ENABLED, "Initializing and Restoring Virtual Machine")
    code, out = client.call("GetSummaryInformation", SettingData=[client.settings(small).path],
                            RequestedInformation=[pywbem.Uint32(n) for n in (0, 1, 4, 100, 103, 105)])
    assert code == COMPLETED
    said, = out["SummaryInformation"]
    assert isinstance(said, pywbem.CIMInstance)
    assert said["Name"] == small["Name"] and said["ElementName"] == "small machine"
    assert (said["EnabledState"], said["NumberOfProcessors"], said["MemoryUsage"]) == (ENABLED, 1, 32)
    assert said["UpTime"] > 0 and said["Notes"] is None
    brought(PAUSE, PAUSED, "Pausing Virtual Machine")
    brought(OFF, DISABLED, "Turning Off Virtual Machine")
    code, _ = client.request(small, 11)
    assert code in (INVALID_PARAMETER, 32770)
    code, _ = client.connection.InvokeMethod("RequestStateChange", small.path)
    assert code == INVALID_PARAMETER


def test_summaries_stand_in_the_order_asked(client):
    first, second = client.define("summary a"), client.define("summary b")
    paths = [client.settings(second).path, client.settings(first).path]
    code, out = client.call("GetSummaryInformation", SettingData=paths,
                            RequestedInformation=[pywbem.Uint32(n) for n in (1, 103, 105, 200)])
    assert code == COMPLETED
    assert [each["ElementName"] for each in out["SummaryInformation"]] == ["summary b", "summary a"]
    assert [each["MemoryUsage"] for each in out["SummaryInformation"]] == [None, None]
    assert [each["UpTime"] for each in out["SummaryInformation"]] == [0, 0]
    code, out = client.call("GetSummaryInformation", RequestedInformation=[pywbem.Uint32(1)])
    names = [each["ElementName"] for each in out["SummaryInformation"]]
    assert {"summary a", "summary b"} <= set(names)
    for vm in (first, second):
        client.destroy(vm)
        assert client.query(f"select * from Msvm_ComputerSystem where Name = '{vm['Name']}'") == []


def test_templates_by_the_chain_of_pools(client):
    for number, sub_type in [("22", "Microsoft Synthetic Disk Drive"),
                             ("21", "Microsoft Virtual Hard Disk"),
                             ("6", "Microsoft Synthetic SCSI Controller"),
                             ("16", "Microsoft Synthetic DVD Drive")]:
        pool = client.one(f"SELECT * FROM Msvm_ResourcePool WHERE ResourceType = '{number}' AND "
                          f"ResourceSubType ='{sub_type}' AND OtherResourceType = null")
        capabilities, = client.connection.Associators(
            pool.path, ResultClass="Msvm_AllocationCapabilities")
        default, = [each for each in client.connection.References(
            capabilities.path, ResultClass="Msvm_SettingsDefineCapabilities")
            if each["ValueRole"] == 0]
        template = client.connection.GetInstance(default["PartComponent"])
        assert template["ResourceSubType"] == sub_type
        assert template["InstanceID"].endswith("\\Default")


def test_the_host(client, small):
    host, = [each for each in client.connection.EnumerateInstances("Msvm_ComputerSystem")
             if each["Caption"] == "Hosting Computer System"]
    assert host["Description"] == "Microsoft Hosting Computer System"
    machines = client.query("SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER")
    assert host["Name"] not in [each["Name"] for each in machines]
    assert small["Name"] in [each["Name"] for each in machines]
    hosted = client.connection.AssociatorNames(
        host.path, AssocClass="Msvm_HostedDependency", ResultClass="Msvm_ComputerSystem")
    assert small["Name"] in [path.keybindings["Name"] for path in hosted]


def test_changes_that_are_refused(client, folder):
    vm, other = client.define(), client.define()
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32))[0] == COMPLETED
    file = str(image(folder / "refused.img"))
    drive, disk = client.attach(vm, client.controller(vm), 0, file)
    assert client.remove(vm, drive.path)[0] == INVALID_PARAMETER
    # No two machines write to one file.
    empty, = client.add(other, text(client.template("Microsoft Synthetic Disk Drive"),
                                    Parent=wmi_path(client.controller(other).path), Address=0))
    code, _ = client.call("AddVirtualSystemResources", TargetSystem=other.path, ResourceSettingData=[
        text(client.template("Microsoft Virtual Hard Disk"), Parent=wmi_path(empty.path),
             Connection=[file])])
    assert code == IN_USE
    for state in (RUN, SAVE):
        client.bring(vm, state)
        assert client.modify(vm, text(memory, VirtualQuantity=64))[0] == INVALID_STATE
        assert client.remove(vm, disk.path)[0] == INVALID_STATE
    # A saved machine is turned off without being started.
    client.bring(vm, OFF)
    assert client.state(vm) == DISABLED
    for each in (vm, other):
        client.destroy(each)
