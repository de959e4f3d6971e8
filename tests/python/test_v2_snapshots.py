"""The life of a snapshot by V2's calls: created, its job followed, listed, applied, destroyed; on a
machine without a guest and on one that counts."""

import pywbem
import pytest

from conftest import follow
from v1_client import STARTED
from v2_client import (
    DISABLED, ENABLED, OFFLINE, REALIZED, SETTINGS, SNAPSHOT, V1, V2, Client, embedded)


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


def in_v1(path):
    """The same object's path in the other namespace."""
    path = path.copy()
    path.namespace = V1
    return path


def test_the_tree(client):
    system = client.define(Notes=["first line", "second line"])
    settings = client.settings(system)
    assert settings["VirtualSystemType"] == REALIZED
    assert settings["Notes"] == ["first line", "second line"]
    first = client.snapshot(system)
    assert first["VirtualSystemType"] == SNAPSHOT
    assert first["VirtualSystemIdentifier"] == system["Name"]
    assert first["Parent"] is None and first["IsSaved"] is False
    second = client.snapshot(system)
    assert second["Parent"].startswith("\\\\") and first["InstanceID"] in second["Parent"]
    one, two = first["InstanceID"], second["InstanceID"]
    assert client.linked(system, "Msvm_SnapshotOfVirtualSystem") == [one, two]
    assert client.linked(system, "Msvm_MostCurrentSnapshotInBranch") == [two]
    assert client.linked(system, "Msvm_LastAppliedSnapshot") == []
    # V1 shows the same tree, with its own names.
    old = pywbem.CIMInstanceName(
        system.classname, system.path.keybindings, namespace=V1)
    listed = client.connection.AssociatorNames(
        old, AssocClass="Msvm_ElementSettingData", ResultClass=SETTINGS)
    assert [each.keybindings["InstanceID"] for each in listed] == [one, two]

    job = client.ends(client.snapshots("ApplySnapshot", Snapshot=first.path))
    assert job["JobType"] == 71
    assert client.linked(system, "Msvm_LastAppliedSnapshot") == [one]
    assert client.linked(system, "Msvm_MostCurrentSnapshotInBranch") == [one]
    branch = client.snapshot(system)["InstanceID"]
    children = client.linked(
        first, "Msvm_ParentChildSettingData", Role="Antecedent", ResultRole="Dependent")
    assert set(children) == {two, branch}

    job = client.ends(client.snapshots("DestroySnapshot", AffectedSnapshot=second.path))
    assert job["JobType"] == 72
    assert client.linked(system, "Msvm_SnapshotOfVirtualSystem") == [one, branch]
    client.ends(client.snapshots("DestroySnapshotTree", SnapshotSettingData=first.path))
    assert client.linked(system, "Msvm_SnapshotOfVirtualSystem") == []
    assert client.settings(system)["Parent"] is None
    client.destroy(system)


def test_a_job_is_followed_in_either_namespace(client):
    system = client.define()
    code, out = client.snapshots(
        "CreateSnapshot", AffectedSystem=system.path, SnapshotSettings="",
        SnapshotType=pywbem.Uint16(2))
    assert code == STARTED and out.get("ResultingSnapshot") is None
    old, new = follow(client.connection, in_v1(out["Job"])), follow(client.connection, out["Job"])
    assert old["JobState"] == new["JobState"] == 7
    assert new["JobType"] == 70 and "JobType" not in old
    assert new["Description"] == old["Description"] == "Taking Virtual Machine Snapshot"
    for path, namespace in ((in_v1(out["Job"]), V1), (out["Job"], V2)):
        made, = client.connection.AssociatorNames(
            path, AssocClass="Msvm_AffectedJobElement", ResultClass=SETTINGS)
        assert made.namespace.lower().replace("\\", "/") == namespace
    client.destroy(system)


def test_a_guest_that_runs(client, guest):
    system = client.one(
        f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{guest.name}'")
    assert client.state(system) == ENABLED
    with_serial = guest.serial()
    before = with_serial.tick()
    snapshot = client.snapshot(system)
    assert snapshot["IsSaved"] is True
    assert client.state(system) == ENABLED
    assert with_serial.tick() > before
    # A snapshot is applied to a machine that is off, and leaves it saved.
    refused, out = client.snapshots("ApplySnapshot", Snapshot=snapshot.path)
    assert refused == 5 and out.get("Job") is None
    client.ends(client.request(system, DISABLED))
    client.ends(client.snapshots("ApplySnapshot", Snapshot=snapshot.path))
    assert client.state(system) == OFFLINE
    assert client.settings(system)["IsSaved"] is True
    client.ends(client.request(system, ENABLED))
    assert client.state(system) == ENABLED
    with_serial = guest.serial()
    again = with_serial.tick()
    assert again > before
    client.ends(client.snapshots("DestroySnapshot", AffectedSnapshot=snapshot.path))


def test_what_cannot_be_promised_is_refused(client):
    system = client.define()

    def refused(**arguments):
        arguments.setdefault("SnapshotType", pywbem.Uint16(2))
        code, out = client.snapshots("CreateSnapshot", **arguments)
        assert out.get("Job") is None
        return code

    settings = "Msvm_VirtualSystemSnapshotSettingData"
    assert refused(AffectedSystem=system.path,
                   SnapshotSettings=embedded(settings, ConsistencyLevel=1)) == 5
    assert refused(AffectedSystem=system.path, SnapshotType=pywbem.Uint16(3)) == 1
    assert refused(AffectedSystem=system.path, SnapshotType=pywbem.Uint16(32768)) == 1
    assert refused(AffectedSystem=system.path, SnapshotType=pywbem.Uint16(9)) == 4
    host = client.one("SELECT * FROM Msvm_ComputerSystem WHERE Name = __SERVER")
    assert refused(AffectedSystem=host.path) == 4
    snapshot = client.snapshot(system)
    code, _ = client.snapshots("ConvertToReferencePoint", AffectedSnapshot=snapshot.path)
    assert code == 1
    client.destroy(system)
