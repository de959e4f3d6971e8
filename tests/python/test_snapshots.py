"""Snapshots as V1 clients take, list, name, apply and remove them, on machines without a guest."""

import datetime
import os
import pathlib
import re
import signal

import pywbem
import pytest

from v1_client import (
    ACCESS_DENIED, COMPLETED, DISABLED, ENABLED, INVALID_PARAMETER, INVALID_STATE, IN_USE,
    NOT_AVAILABLE, OFF, RESOURCE, RUN, SAVE, SETTINGS, STARTED, SUSPENDED, TIMEOUT,
    Client, image, text, wmi_path)

DISK = "Microsoft Virtual Hard Disk"


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


@pytest.fixture
def vm(client, tmp_path):
    """Off, with one small disk and little memory."""
    vm = client.define()
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32))[0] == 0
    client.attach(vm, client.controller(vm), 0, str(image(tmp_path / "disk.img")))
    yield vm
    if client.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm['Name']}'"):
        if client.state(vm) not in (DISABLED, SUSPENDED):
            client.bring(vm, OFF)
        client.destroy(vm)


def file_of(client, settings):
    disk, = [each for each in client.resources(settings) if each["ResourceSubType"] == DISK]
    return disk["Connection"][0]


def test_what_a_snapshot_is(client, vm):
    before = client.settings(vm)
    file = file_of(client, before)
    snapshot = client.snapshot(vm)
    assert (snapshot["SettingType"], snapshot["VirtualSystemType"]) == (5, 301)
    assert snapshot["SystemName"] == vm["Name"]
    assert snapshot["Description"] == "Snapshot settings for the virtual machine"
    assert snapshot["Caption"] == "Virtual Machine"
    assert vm["Name"] not in snapshot["InstanceID"]
    assert re.fullmatch(r"Microsoft:[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}",
                        snapshot["InstanceID"])
    assert re.fullmatch(re.escape(vm["ElementName"]) +
                        r" - \(\d{1,2}/\d{1,2}/\d{4} - \d{1,2}:\d\d:\d\d [AP]M\)",
                        snapshot["ElementName"])
    assert re.fullmatch(r"\d{14}\.\d{6}[-+]000", str(snapshot["CreationTime"]))
    age = datetime.datetime.now(datetime.timezone.utc) - snapshot["CreationTime"].datetime
    assert abs(age.total_seconds()) < 60
    assert file_of(client, snapshot) == file
    now = file_of(client, client.settings(vm))
    assert now != file and now.endswith(".avhd")
    # Its resources: those of the machine, under its own name.
    own = client.query(f"SELECT * FROM CIM_ResourceAllocationSettingData WHERE InstanceID LIKE "
                       f"'{snapshot['InstanceID']}%'")
    linked = client.connection.Associators(
        snapshot.path, AssocClass="Msvm_VirtualSystemSettingDataComponent")
    active = client.connection.Associators(
        before.path, AssocClass="Msvm_VirtualSystemSettingDataComponent")
    device = lambda rows: sorted(each["InstanceID"].split("\\", 1)[1] for each in rows)
    assert device(own) == device(linked) == device(active)
    generic = client.resources(snapshot)
    assert {each.classname for each in generic} == {RESOURCE}
    drive, = [each for each in generic
              if each["ResourceSubType"] == "Microsoft Synthetic Disk Drive"]
    assert snapshot["InstanceID"] in drive["Parent"].replace("\\\\", "\\")


def test_the_tree(client, vm):
    def active_parent():
        settings = client.settings(vm)
        assert client.linked(vm, "Msvm_PreviousSettingData") == \
            ([client.parent(settings)] if settings["Parent"] else [])
        return client.parent(settings)

    def children(of):
        return {path.keybindings["InstanceID"] for path in client.connection.AssociatorNames(
            of.path, AssocClass="Msvm_ParentChildSettingData", Role="Antecedent",
            ResultRole="Dependent")}

    active = f"Microsoft:{vm['Name']}"
    assert active_parent() is None
    first = client.snapshot(vm)
    assert (client.parent(first), active_parent()) == (None, first["InstanceID"])
    assert client.linked(vm, "Msvm_LastAppliedSettingData") == []
    second = client.snapshot(vm)
    assert (client.parent(second), active_parent()) == (first["InstanceID"], second["InstanceID"])
    third = client.snapshot(vm)
    assert second["CreationTime"].datetime < third["CreationTime"].datetime
    code, out = client.apply(vm, first)
    assert code == COMPLETED and not out.get("Job")
    assert active_parent() == first["InstanceID"]
    assert client.linked(vm, "Msvm_LastAppliedSettingData ") == [first["InstanceID"]]
    assert client.apply(vm, first)[0] == COMPLETED
    branch = client.snapshot(vm)
    assert client.parent(branch) == first["InstanceID"]
    assert active_parent() == branch["InstanceID"]
    assert client.linked(vm, "Msvm_LastAppliedSettingData") == [first["InstanceID"]]
    assert children(first) == {second["InstanceID"], branch["InstanceID"]}
    assert children(branch) == {active}

    # Lists: the active one first; the parent of the running state is the one named twice.
    listed = [each["InstanceID"] for each in client.connection.Associators(
        vm.path, ResultClass=SETTINGS)]
    assert listed[0] == active and listed.count(active) == 1
    assert listed.count(branch["InstanceID"]) == 2
    assert listed.count(second["InstanceID"]) == 1
    snapshots = {each["InstanceID"] for each in (first, second, third, branch)}
    assert set(client.linked(vm, "Msvm_ElementSettingData")) == snapshots
    for condition in ("SettingType = 5", f"InstanceID <> '{active}'"):
        found = client.query(
            f"SELECT * FROM {SETTINGS} WHERE SystemName = '{vm['Name']}' AND {condition}")
        assert {each["InstanceID"] for each in found} == snapshots
    # Parent is the text of the other's path.
    texts = {wmi_path(each.path, client.service["SystemName"]) for each in (first, branch)}
    assert client.connection.GetInstance(second.path)["Parent"] in texts

    # The middle goes, its child and its disk chain stay.
    job = client.ends(client.call("RemoveVirtualSystemSnapshot", SnapshotSettingData=second.path))
    assert job["Description"] == "Deleting Snapshot"
    assert client.parent(third) == first["InstanceID"]
    with pytest.raises(pywbem.CIMError) as error:
        client.connection.GetInstance(second.path)
    assert error.value.status_code == pywbem.CIM_ERR_NOT_FOUND
    assert client.apply(vm, third)[0] == COMPLETED
    # With its children: the machine's own state stays, now without a parent.
    client.ends(client.call("RemoveVirtualSystemSnapshotTree", SnapshotSettingData=first.path))
    assert client.linked(vm, "Msvm_ElementSettingData") == []
    assert client.linked(vm, "Msvm_LastAppliedSettingData") == []
    assert active_parent() is None
    assert [each["SettingType"] for each in client.connection.Associators(
        vm.path, ResultClass=SETTINGS)] == [3]
    assert pathlib.Path(file_of(client, client.settings(vm))).exists()


def test_names_and_notes(client, vm):
    snapshot = client.snapshot(vm)

    def modify(**changes):
        return client.call("ModifyVirtualSystem", ComputerSystem=vm.path,
                           SystemSettingData=text(snapshot, **changes))

    assert modify(ElementName="before the update", Notes="by hand")[0] == COMPLETED
    again = client.connection.GetInstance(snapshot.path)
    assert (again["ElementName"], again["Notes"]) == ("before the update", "by hand")
    assert client.connection.GetInstance(vm.path)["ElementName"] == vm["ElementName"]
    assert modify(BootOrder=[3, 2, 1, 0])[0] == INVALID_PARAMETER
    assert client.connection.GetInstance(snapshot.path)["BootOrder"] == [0, 1, 2, 3]
    # What is in a snapshot stays as it was.
    memory = client.resources(snapshot, "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=64))[0] == INVALID_PARAMETER
    assert client.remove(vm, client.resources(snapshot)[0].path)[0] == INVALID_PARAMETER


def test_settings_come_back(client, vm):
    snapshot = client.snapshot(vm)
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=48))[0] == COMPLETED
    code, out = client.call("ApplyVirtualSystemSnapshotEx", ComputerSystem=vm.path,
                            SnapshotSettingData=snapshot.path)
    job = client.ends((code, out))
    assert job["InstanceID"] in [each["InstanceID"] for each in client.connection.Associators(
        vm.path, ResultClass="Msvm_ConcreteJob")]
    assert client.connection.GetInstance(memory.path)["VirtualQuantity"] == 32
    assert client.settings(vm)["InstanceID"] == f"Microsoft:{vm['Name']}"


def test_a_running_and_a_saved_machine(client, vm):
    client.bring(vm, RUN)
    live = client.snapshot(vm)
    assert client.state(vm) == ENABLED
    assert client.apply(vm, live)[0] == INVALID_STATE
    client.bring(vm, SAVE)
    saved = client.snapshot(vm)
    assert client.state(vm) == SUSPENDED
    assert client.apply(vm, live)[0] == COMPLETED
    assert client.state(vm) == SUSPENDED
    client.bring(vm, RUN)
    client.bring(vm, OFF)
    off = client.snapshot(vm)
    assert client.apply(vm, saved)[0] == COMPLETED
    assert client.state(vm) == SUSPENDED
    client.bring(vm, RUN)
    client.bring(vm, OFF)
    assert client.apply(vm, off)[0] == COMPLETED
    assert client.state(vm) == DISABLED
    assert client.parent(off) == live["InstanceID"]
    client.ends(client.call("RemoveVirtualSystemSnapshotTree", SnapshotSettingData=live.path))


def test_wrong_snapshots(client, vm):
    other = client.define()
    foreign = client.snapshot(other)
    assert client.apply(vm, foreign)[0] == INVALID_PARAMETER
    active = client.settings(vm)
    assert client.apply(vm, active)[0] == INVALID_PARAMETER
    for method in ("RemoveVirtualSystemSnapshot", "RemoveVirtualSystemSnapshotTree"):
        assert client.call(method, SnapshotSettingData=active.path)[0] == INVALID_PARAMETER
        assert client.call(method, SnapshotSettingData=vm.path)[0] == INVALID_PARAMETER
        assert client.call(method)[0] == INVALID_PARAMETER
    client.destroy(other)
    assert client.call("RemoveVirtualSystemSnapshot",
                       SnapshotSettingData=foreign.path)[0] == INVALID_PARAMETER


def qemu_of(vm):
    """The process that runs the machine."""
    found = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()
             and b"qemu-system" in (command := command_line(entry)).split(b"\0")[0]
             and vm["Name"].lower().encode() in command.lower()]
    assert len(found) == 1
    return found[0]


def command_line(entry):
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_machine_whose_process_is_held(client, vm):
    client.bring(vm, RUN)
    process = qemu_of(vm)
    os.kill(process, signal.SIGSTOP)
    try:
        code, out = client.begin_snapshot(vm)
        assert code in (TIMEOUT, NOT_AVAILABLE) and not out.get("Job")
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_missing_layer(client, vm):
    client.snapshot(vm)
    layer = pathlib.Path(file_of(client, client.settings(vm)))
    aside = layer.with_suffix(".aside")
    layer.rename(aside)
    code, out = client.begin_snapshot(vm)
    aside.rename(layer)
    assert (code, out.get("Job")) == (NOT_AVAILABLE, None)
    client.snapshot(vm)


def test_roles(service, client, vm):
    watcher, shifter = (Client(service.connect(user=name)) for name in ("watcher", "shifter"))
    code, out = watcher.begin_snapshot(vm)
    assert (code, out.get("Job")) == (ACCESS_DENIED, None)
    assert watcher.request(vm, RUN)[0] == ACCESS_DENIED
    snapshot = shifter.snapshot(vm)
    assert watcher.connection.GetInstance(snapshot.path)["SettingType"] == 5
    assert watcher.apply(vm, snapshot)[0] == ACCESS_DENIED
    assert watcher.call("RemoveVirtualSystemSnapshot",
                        SnapshotSettingData=snapshot.path)[0] == ACCESS_DENIED
    assert shifter.call("DestroyVirtualSystem", ComputerSystem=vm.path)[0] == ACCESS_DENIED
    new = "instance of Msvm_VirtualSystemGlobalSettingData { ElementName = \"no\"; };"
    assert shifter.call("DefineVirtualSystem", SystemSettingData=new)[0] == ACCESS_DENIED


def test_two_at_once(client, connection, guest):
    vm = client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{guest.name}'")
    code, out = client.begin_snapshot(vm)
    assert code == STARTED
    second, answer = client.begin_snapshot(vm)
    assert (second, answer.get("Job")) == (IN_USE, None)
    while connection.GetInstance(out["Job"])["JobState"] == 4:
        seen = connection.GetInstance(vm.path)
        assert seen["EnabledState"] == ENABLED
        assert seen["OperationalStatus"] in ([2], [2, 32768], [11, 32768])
    client.ends((code, out))
    assert connection.GetInstance(vm.path)["OperationalStatus"] == [2]
