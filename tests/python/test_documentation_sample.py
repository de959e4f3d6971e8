"""The call sequence of the documentation's sample, by a client that is not ours."""

import time

import pywbem

from conftest import JOB_COMPLETED, follow


def virtual_machine(connection, name):
    found = connection.ExecQuery(
        "WQL", f"select * from Msvm_ComputerSystem Where ElementName = '{name}'")
    assert len(found) == 1
    return found[0]


def service_of(connection):
    found = connection.EnumerateInstances("Msvm_VirtualSystemManagementService")
    assert len(found) == 1
    return found[0]


def resources(connection, settings):
    return connection.Associators(
        settings.path, ResultClass="CIM_ResourceAllocationSettingData")


def settings_of(connection, vm):
    found = connection.Associators(
        vm.path, AssocClass="Msvm_SettingsDefineState",
        ResultClass="Msvm_VirtualSystemSettingData",
        Role="ManagedElement", ResultRole="SettingData")
    assert len(found) == 1
    return found[0]


def devices(rows):
    """What identifies a device whatever configuration it stands in."""
    return sorted(row["InstanceID"].split("\\", 1)[1] for row in rows)


def test_snapshot_of_a_running_machine(connection, guest):
    serial = guest.serial()
    before = serial.tick()
    service = service_of(connection)
    vm = virtual_machine(connection, guest.name)
    assert vm["EnabledState"] == 2

    declared = connection.GetClass("Msvm_VirtualSystemManagementService", LocalOnly=False)
    method = declared.methods["CreateVirtualSystemSnapshot"]
    assert method.parameters["SourceSystem"].type == "reference"

    active_before = settings_of(connection, vm)
    devices_before = resources(connection, active_before)
    called = time.time()
    code, out = connection.InvokeMethod(
        "CreateVirtualSystemSnapshot", service.path, SourceSystem=vm.path)
    assert code == 4096
    assert out.get("SnapshotSettingData") is None
    assert isinstance(out["Job"], pywbem.CIMInstanceName)

    first = connection.GetInstance(out["Job"])
    assert first["JobState"] in (4, 7)
    job = follow(connection, out["Job"])
    assert job["JobState"] == JOB_COMPLETED, job.items()
    assert job["PercentComplete"] == 100
    assert job["ErrorCode"] == 0
    assert job["Description"] == "Taking Virtual Machine Snapshot"
    assert connection.InvokeMethod("GetError", job.path)[0] == 0

    found = connection.Associators(job.path, ResultClass="Msvm_VirtualSystemSettingData")
    assert len(found) == 1
    snapshot = found[0]
    assert snapshot["SettingType"] == 5
    assert snapshot["SystemName"] == vm["Name"]
    assert snapshot["InstanceID"] != f"Microsoft:{vm['Name']}"
    assert snapshot["ElementName"].startswith(guest.name + " - (")
    assert snapshot["Parent"] is None
    taken = snapshot["CreationTime"].datetime.timestamp()
    assert called - 2 <= taken <= time.time() + 2
    assert snapshot["CreationTime"].minutes_from_utc == 0

    # One resource setting for every device of the machine, as it was at that moment.
    rows = resources(connection, snapshot)
    assert devices(rows) == devices(devices_before)
    before_by_device = {r["InstanceID"].split("\\", 1)[1]: r for r in devices_before}
    for row in rows:
        earlier = before_by_device[row["InstanceID"].split("\\", 1)[1]]
        assert row.classname == earlier.classname
        for name in ("ResourceType", "ResourceSubType", "Address", "VirtualQuantity"):
            assert row[name] == earlier[name], (row["InstanceID"], name)
        if row["ResourceSubType"] == "Microsoft Virtual Hard Disk":
            assert row["Connection"] == earlier["Connection"]

    # The active configuration writes to new layers, and descends from the snapshot.
    active = settings_of(connection, vm)
    disks = [r for r in resources(connection, active)
             if r["ResourceSubType"] == "Microsoft Virtual Hard Disk"]
    assert len(disks) == 3
    for row in disks:
        assert row["Connection"][0].endswith(".avhd")
    assert active["Parent"].split(":", 1)[1] == \
        f'Msvm_VirtualSystemSettingData.InstanceID="{snapshot["InstanceID"]}"'
    previous = connection.Associators(
        vm.path, AssocClass="Msvm_PreviousSettingData",
        ResultClass="Msvm_VirtualSystemSettingData")
    assert [p["InstanceID"] for p in previous] == [snapshot["InstanceID"]]
    listed = connection.Associators(
        vm.path, AssocClass="Msvm_ElementSettingData",
        ResultClass="Msvm_VirtualSystemSettingData")
    assert snapshot["InstanceID"] in [s["InstanceID"] for s in listed]

    # The guest never stopped counting.
    assert virtual_machine(connection, guest.name)["EnabledState"] == 2
    assert serial.tick() > before


def test_active_configuration_comes_first(connection, guest):
    vm = virtual_machine(connection, guest.name)
    found = connection.Associators(vm.path, ResultClass="Msvm_VirtualSystemSettingData")
    assert found[0]["SettingType"] == 3


def test_every_instance_is_found_again_by_its_path(connection, guest):
    for name in ("Msvm_ComputerSystem", "Msvm_VirtualSystemSettingData",
                 "CIM_ResourceAllocationSettingData", "Msvm_VirtualSystemGlobalSettingData",
                 "Msvm_ResourcePool", "Msvm_AllocationCapabilities"):
        found = connection.EnumerateInstances(name)
        assert found, name
        for instance in found:
            again = connection.GetInstance(instance.path)
            ticking = {"ontimeinmilliseconds", "timeoflaststatechange"}
            for key, value in instance.properties.items():
                if key.lower() not in ticking:
                    assert again.properties[key].value == value.value, (name, key)


def test_pull_and_traditional_operations_agree(connection, guest):
    plain = connection.EnumerateInstances("CIM_ResourceAllocationSettingData")
    opened = connection.OpenEnumerateInstances(
        "CIM_ResourceAllocationSettingData", MaxObjectCount=7)
    pulled = list(opened.instances)
    while not opened.eos:
        opened = connection.PullInstancesWithPath(opened.context, MaxObjectCount=7)
        pulled.extend(opened.instances)
    key = lambda instance: instance["InstanceID"]
    assert sorted(map(key, pulled)) == sorted(map(key, plain))


def test_interop_namespace(service):
    connection = service.connect()
    server = pywbem.WBEMServer(connection)
    assert server.interop_ns
    assert "root/virtualization" in [n.lower() for n in server.namespaces]
    assert server.brand
    assert server.version
