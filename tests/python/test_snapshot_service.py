"""The snapshot service: asking before a snapshot, verifying and rehearsing one."""

import os
import pathlib
import time

import pytest

from conftest import follow
from v1_client import (
    ACCESS_DENIED, COMPLETED, INVALID_PARAMETER, NOT_AVAILABLE, OFF, RUN, SETTINGS, STARTED,
    Client, image, text)


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


@pytest.fixture(scope="module")
def snapshots(connection):
    return connection.EnumerateInstances("Rootvirt_SnapshotService")[0]


@pytest.fixture
def vm(client, tmp_path):
    vm = client.define()
    memory = client.resources(client.settings(vm), "Msvm_MemorySettingData")[0]
    assert client.modify(vm, text(memory, VirtualQuantity=32))[0] == 0
    client.attach(vm, client.controller(vm), 0, str(image(tmp_path / "disk.img")))
    yield vm
    if client.state(vm) == 2:
        client.bring(vm, OFF)
    client.destroy(vm)


def files_of(client, snapshot):
    return client.query("SELECT * FROM Rootvirt_SnapshotFile WHERE Snapshot = "
                        f"'{snapshot['InstanceID']}'")


def test_the_check_before(client, snapshots, vm):
    ask = lambda: client.connection.InvokeMethod(
        "CheckSnapshot", snapshots.path, SourceSystem=vm.path)
    code, out = ask()
    forecast = out["Forecast"]
    assert (code, forecast.classname) == (COMPLETED, "Rootvirt_SnapshotForecast")
    assert (forecast["Possible"], forecast["WithMemory"]) == (True, False)
    client.bring(vm, RUN)
    client.snapshot(vm)
    code, out = ask()
    forecast = out["Forecast"]
    assert (code, forecast["Possible"], forecast["WithMemory"]) == (COMPLETED, True, True)
    assert (forecast["Basis"], forecast["Samples"]) == (1, 1)
    assert forecast["ExpectedPause"] > 0 and forecast["ExpectedTimeToDurable"] > 0
    assert all(there > needed for there, needed in
               zip(forecast["SpaceAvailable"], forecast["SpaceNeeded"]))
    host = [each for each in client.connection.Associators(
        snapshots.path, AssocClass="Rootvirt_HostedService")]
    assert len(host) == 1
    code, out = client.connection.InvokeMethod(
        "CheckSnapshot", snapshots.path, SourceSystem=host[0].path)
    assert (code, out.get("Forecast")) == (INVALID_PARAMETER, None)


def test_a_changed_file_is_found(client, snapshots, vm):
    snapshot = client.snapshot(vm)
    verify = lambda: client.connection.InvokeMethod(
        "VerifySnapshot", snapshots.path, SnapshotSettingData=snapshot.path)
    for _ in range(600):
        client.ends(verify())
        files = files_of(client, snapshot)
        if all(each["State"] == 2 for each in files):
            break
        time.sleep(0.1)
    manifest, layer = files
    assert manifest["Role"] == "manifest" and "layer 1 of 1" in layer["Role"]
    with open(layer["Path"], "r+b") as file:
        file.seek(1000)
        file.write(b"x")
    code, out = verify()
    assert code == STARTED
    job = follow(client.connection, out["Job"])
    assert (job["JobState"], job["ErrorCode"]) == (10, NOT_AVAILABLE)
    assert layer["Path"] in job["ErrorDescription"]
    bad = files_of(client, snapshot)[1]
    assert (bad["State"], bad["DamageOffsets"]) == (5, [0])
    assert bad["DamageLengths"][0] > 1000


def test_a_rehearsal(client, snapshots, service, guest):
    vm = client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{guest.name}'")
    snapshot = client.snapshot(vm)
    job = client.ends(client.connection.InvokeMethod(
        "RehearseSnapshot", snapshots.path, SnapshotSettingData=snapshot.path))
    assert job["Description"] == "Rehearsing Snapshot"
    seen = client.one("SELECT * FROM Rootvirt_SnapshotRehearsal WHERE InstanceID = "
                      f"'{snapshot['InstanceID']}'")
    assert (seen["Outcome"], seen["SignOfLife"]) == (2, "wrote to serial port 1")
    assert seen["TimeToRunning"] <= seen["TimeToSignOfLife"]
    # It runs before all of its memory is there.
    assert seen["TimeToLoaded"] > 0
    assert os.listdir(pathlib.Path(service.data_dir) / "rehearsals") == []
    # The machine itself has not noticed.
    assert client.state(vm) == 2
    guest.serial().wait("tick ", 60)
    name = snapshot["ElementName"]
    shown, = service.json("snapshot", "show", guest.name, name)
    assert shown["rehearsal"].startswith("lived")
    rows = service.json("snapshot", "verify", guest.name, name, "--quick")
    assert {"manifest", "memory image"} < {row["role"] for row in rows}
    refused = service.run("snapshot", "rehearse", guest.name, name, "--patience", "0", check=False)
    assert refused.returncode == 2


def test_rights(service, client, snapshots, vm):
    snapshot = client.snapshot(vm)
    viewer = service.connect(user="watcher")
    for method in ("VerifySnapshot", "RehearseSnapshot"):
        code, out = viewer.InvokeMethod(
            method, snapshots.path, SnapshotSettingData=snapshot.path)
        assert (code, out.get("Job")) == (ACCESS_DENIED, None)
    assert viewer.InvokeMethod("CheckSnapshot", snapshots.path, SourceSystem=vm.path)[0] == 0
