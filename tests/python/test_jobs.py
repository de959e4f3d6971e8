"""Jobs as V1 clients follow, read and cancel them."""

import re
import time

import pywbem
import pytest

from conftest import follow
from v1_client import (
    COMPLETED, DISABLED, ENABLED, NOT_AVAILABLE, NOT_SUPPORTED, RUN, SETTINGS, STARTED, Client,
    image)

CANCELLED = (8, 9, 10)
INVALID_TRANSITION, NO_TIMEOUT = 4097, 4098


@pytest.fixture(scope="module")
def client(connection):
    return Client(connection)


@pytest.fixture(scope="module")
def job(client):
    """Of a snapshot of a machine that is off."""
    vm = client.define("job machine")
    return client.ends(client.begin_snapshot(vm))


def test_what_a_job_says(client, job):
    types = {"JobState": "uint16", "PercentComplete": "uint16", "ErrorCode": "uint16",
             "JobStatus": "string", "Description": "string", "Caption": "string",
             "Cancellable": "boolean", "DeleteOnCompletion": "boolean", "JobRunTimes": "uint32",
             "ElapsedTime": "datetime", "TimeBeforeRemoval": "datetime", "StartTime": "datetime",
             "OperationalStatus": "uint16", "HealthState": "uint16", "ErrorDescription": "string",
             "ErrorSummaryDescription": "string", "InstanceID": "string"}
    for name, type_ in types.items():
        assert job.properties[name].type == type_, name
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", job["InstanceID"])
    assert (job["JobState"], job["PercentComplete"], job["ErrorCode"]) == (7, 100, 0)
    assert (job["OperationalStatus"], job["HealthState"]) == ([2], 5)
    assert (job["StatusDescriptions"], job["JobRunTimes"]) == (["OK"], 1)
    assert str(job["TimeBeforeRemoval"]) == "00000000000500.000000:000"
    assert re.fullmatch(r"\d{14}\.\d{6}:000", str(job["ElapsedTime"]))
    assert job["Caption"] and job["Description"] == "Taking Virtual Machine Snapshot"
    assert job["Cancellable"] is False


def test_what_a_job_leads_to(client, job):
    snapshot, = client.connection.Associators(job.path, ResultClass=SETTINGS)
    assert snapshot["SettingType"] == 5
    vm, = client.connection.Associators(job.path, ResultClass="Msvm_ComputerSystem")
    assert vm["ElementName"] == "job machine"
    assert job["InstanceID"] in [each["InstanceID"] for each in client.connection.Associators(
        vm.path, ResultClass="Msvm_ConcreteJob")]
    links = client.connection.References(job.path, ResultClass="Msvm_AffectedJobElement")
    effects = {link["AffectedElement"].classname: link["ElementEffects"] for link in links}
    assert effects == {"Msvm_ComputerSystem": [2], SETTINGS: [5]}


def test_a_job_is_opened_by_any_spelling_of_its_path(client, job):
    guid = job["InstanceID"]
    for path in (f'\\\\.\\root\\virtualization:Msvm_ConcreteJob.InstanceID="{guid}"',
                 f'//HOST/root/virtualization:Msvm_ConcreteJob.InstanceID="{guid}"',
                 f"Msvm_ConcreteJob.InstanceID='{guid.lower()}'"):
        quoted = path.replace("'", "\\'")
        found = client.query(f"SELECT * FROM Msvm_ConcreteJob WHERE __PATH = '{quoted}'")
        assert [each["InstanceID"] for each in found] == [guid], path


def test_a_job_that_has_ended(client, job):
    ask = client.connection.InvokeMethod
    assert ask("KillJob", job.path, DeleteOnKill=True)[0] == NOT_SUPPORTED
    for method, name in (("GetError", "Error"), ("GetErrorEx", "Errors")):
        code, out = ask(method, job.path)
        assert code == COMPLETED and not out.get(name)
    for state in (4, 5, 2, 3, 99):
        assert ask("RequestStateChange", job.path,
                   RequestedState=pywbem.Uint16(state))[0] == INVALID_TRANSITION
    code, _ = ask("RequestStateChange", job.path, RequestedState=pywbem.Uint16(4),
                  TimeoutPeriod=pywbem.CIMDateTime("00000000000100.000000:000"))
    assert code == NO_TIMEOUT


def test_a_job_that_fails(client, tmp_path):
    vm = client.define()
    file = image(tmp_path / "gone.img")
    client.attach(vm, client.controller(vm), 0, str(file))
    file.unlink()
    code, out = client.request(vm, RUN)
    assert code == STARTED
    job = follow(client.connection, out["Job"])
    assert (job["JobState"], job["ErrorCode"]) == (10, NOT_AVAILABLE)
    assert "gone.img" in job["ErrorDescription"] and job["ErrorSummaryDescription"]
    code, error = client.connection.InvokeMethod("GetError", job.path)
    assert code == COMPLETED and "gone.img" in error["Error"]
    assert client.state(vm) == DISABLED
    client.destroy(vm)


def test_a_snapshot_is_cancelled(client, guest):
    vm = client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{guest.name}'")
    before = client.linked(vm, "Msvm_ElementSettingData")
    parent = client.parent(client.settings(vm))
    tick = guest.serial().tick()
    # Only what has changed since the last snapshot is stored: too little to be cancelled in time.
    guest.serial().fill(100)
    code, out = client.begin_snapshot(vm)
    assert code == STARTED
    running = client.connection.GetInstance(out["Job"])
    end = time.monotonic() + 10
    while running["JobState"] == 4 and not running["Cancellable"]:
        assert time.monotonic() < end
        running = client.connection.GetInstance(out["Job"])
    assert running["JobState"] == 4
    assert running["Cancellable"] is True
    assert running["ErrorCode"] == 0
    assert client.connection.InvokeMethod("GetError", out["Job"])[0] == COMPLETED
    code, _ = client.connection.InvokeMethod(
        "RequestStateChange", out["Job"], RequestedState=pywbem.Uint16(5))
    assert code == COMPLETED
    ended = follow(client.connection, out["Job"], 10)
    assert ended["JobState"] in CANCELLED
    assert ended["ErrorCode"] and ended["ErrorDescription"] and ended["ErrorSummaryDescription"]
    code, error = client.connection.InvokeMethod("GetError", out["Job"])
    assert code == COMPLETED and '<INSTANCE CLASSNAME="Msvm_Error">' in error["Error"]
    code, errors = client.connection.InvokeMethod("GetErrorEx", out["Job"])
    assert code == COMPLETED and len(errors["Errors"]) == 1
    code, said = client.call("FormatError", Errors=[error["Error"]])
    assert code == COMPLETED and said["ErrorMessage"]
    assert client.connection.Associators(out["Job"], ResultClass=SETTINGS) == []
    assert client.linked(vm, "Msvm_ElementSettingData") == before
    assert client.parent(client.settings(vm)) == parent
    assert client.state(vm) == ENABLED
    assert guest.serial().tick() > tick
    guest.serial().fill(0)


def test_a_restart_keeps_jobs(service, job):
    service.stop()
    connection = service.start().connect()
    again = connection.GetInstance(job.path)
    assert {name: each.value for name, each in again.properties.items()} == \
        {name: each.value for name, each in job.properties.items()}
    snapshot, = connection.Associators(job.path, ResultClass=SETTINGS)
    assert snapshot["SettingType"] == 5
