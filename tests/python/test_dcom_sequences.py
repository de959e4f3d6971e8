"""Machines and snapshots over DCOM from beginning to end, by impacket's library as it is published:
methods found with GetMethod and called by name, results followed by their paths."""

import time

import pywbem
import pytest

from conftest import JOB_COMPLETED, JOB_RUNNING, PASSWORD
from dcom_client import Failed, Impacket, path_of, raw, wmi_type
from v1_client import ACCESS_DENIED, COMPLETED, DISABLED, ENABLED, OFF, RUN, SETTINGS, STARTED, image, text

# impacket cannot leave out an argument.
NO_TIME = "00000000000000.000000:000"
RESOURCE = "Msvm_ResourceAllocationSettingData"


class Dcom:
    """What V1 clients do, over DCOM only."""

    def __init__(self, session):
        self.session = session
        self.service = session.one("SELECT * FROM Msvm_VirtualSystemManagementService")

    def path(self, instance):
        return f"\\\\127.0.0.1\\root\\virtualization:{path_of(instance)}"

    def settings_text(self, instance, **changes):
        """The instance as GetText gives it, made of what came over DCOM."""
        own = pywbem.CIMInstance(instance.getClassName())
        for name, each in instance.getProperties().items():
            (kind, is_array), value = wmi_type(each["type"]), each["value"]
            if each["null_default"]:
                value = None
            if kind == "boolean" and isinstance(value, str):
                value = value == "True"
            own[name] = pywbem.CIMProperty(name, value, type=kind, is_array=is_array)
        return text(own, **changes)

    def call(self, target, method, **arguments):
        return self.session.invoke(target, method, **arguments)

    def follow(self, answer):
        """GetObject on the job until it is done."""
        assert answer.ReturnValue == STARTED, answer.ReturnValue
        percent, end = 0, time.monotonic() + 120
        while True:
            job = self.session.get(answer.Job)
            assert job.PercentComplete >= percent
            percent = job.PercentComplete
            if job.JobState not in JOB_RUNNING:
                assert job.JobState == JOB_COMPLETED, raw(job)
                return job
            assert time.monotonic() < end
            time.sleep(0.1)

    def related(self, instance, rest):
        return self.session.query(f"ASSOCIATORS OF {{{path_of(instance)}}} WHERE {rest}")

    def define(self, name):
        template = pywbem.CIMInstance("Msvm_VirtualSystemGlobalSettingData", {"ElementName": name})
        answer = self.call(self.service, "DefineVirtualSystem", SystemSettingData=text(template),
                           ResourceSettingData=[], SourceSetting="")
        assert answer.ReturnValue == COMPLETED
        return self.session.get(answer.DefinedSystem)

    def active(self, vm):
        return [each for each in self.related(vm, f"ResultClass = {SETTINGS}")
                if each.SettingType == 3][0]

    def resource(self, settings, class_name, sub_type=None):
        return [each for each in self.related(settings, f"ResultClass = {class_name}")
                if sub_type in (None, each.ResourceSubType)][0]

    def template(self, sub_type):
        return self.session.one(
            f"SELECT * FROM {RESOURCE} WHERE ResourceSubType = '{sub_type}' "
            "AND InstanceID LIKE '%Default'")

    def add(self, vm, text):
        answer = self.call(
            self.service, "AddVirtualSystemResources", TargetSystem=self.path(vm),
            ResourceSettingData=[text])
        assert answer.ReturnValue == COMPLETED
        return answer


@pytest.fixture(params=["integrity", "privacy"])
def dcom(request, service):
    with Impacket(service.dcom_port(), "admin", PASSWORD,
                  privacy=request.param == "privacy") as session:
        yield Dcom(session)


def test_a_machine_and_its_snapshots(dcom, tmp_path):
    session, service = dcom.session, dcom.service
    vm = dcom.define("over DCOM")
    assert vm.ElementName == "over DCOM" and vm.EnabledState == DISABLED
    active = dcom.active(vm)
    memory = dcom.resource(active, "Msvm_MemorySettingData")
    answer = dcom.call(service, "ModifyVirtualSystemResources", ComputerSystem=dcom.path(vm),
                       ResourceSettingData=[dcom.settings_text(memory, VirtualQuantity=32)])
    assert answer.ReturnValue == COMPLETED
    assert dcom.resource(active, "Msvm_MemorySettingData").VirtualQuantity == 32

    # A disk: a drive on the first controller, and the file in it. Settings as embedded instances.
    controller = dcom.resource(active, RESOURCE, "Microsoft Emulated IDE Controller")
    dcom.add(vm, dcom.settings_text(
        dcom.template("Microsoft Synthetic Disk Drive"), Parent=dcom.path(controller), Address=0))
    drive = dcom.resource(active, RESOURCE, "Microsoft Synthetic Disk Drive")
    file = str(image(tmp_path / "disk.img"))
    dcom.add(vm, dcom.settings_text(
        dcom.template("Microsoft Virtual Hard Disk"), Parent=dcom.path(drive), Connection=[file]))
    disk = dcom.resource(active, RESOURCE, "Microsoft Virtual Hard Disk")
    assert raw(disk)["Connection"] == [file]

    # Started, as the machine's own method.
    dcom.follow(dcom.call(vm, "RequestStateChange", RequestedState=RUN,
                          TimeoutPeriod=NO_TIME))
    assert session.get(path_of(vm)).EnabledState == ENABLED

    # The whole way of a snapshot: the method is found, and called with a reference.
    methods = session.get("Msvm_VirtualSystemManagementService").getMethods()
    create = methods["CreateVirtualSystemSnapshot"]
    assert list(create["InParams"]) == ["SourceSystem"]
    assert {"Job", "ReturnValue", "SnapshotSettingData"} <= set(create["OutParams"])
    job = dcom.follow(dcom.call(service, "CreateVirtualSystemSnapshot",
                                SourceSystem=dcom.path(vm)))
    found = dcom.related(job, f"ResultClass = {SETTINGS}")
    assert len(found) == 1
    snapshot, = found
    assert (snapshot.SettingType, snapshot.SystemName) == (5, vm.Name)
    # What belongs to the snapshot: the machine, and its own devices.
    related = session.query(f"ASSOCIATORS OF {{{path_of(snapshot)}}}")
    kinds = {each.getClassName() for each in related}
    assert {"Msvm_ComputerSystem", "Msvm_MemorySettingData", RESOURCE} <= kinds
    assert [each.Name for each in related if each.getClassName() == "Msvm_ComputerSystem"][0] == \
        vm.Name

    # Back to it, which takes a machine that is off; then without it.
    dcom.follow(dcom.call(vm, "RequestStateChange", RequestedState=OFF,
                          TimeoutPeriod=NO_TIME))
    answer = dcom.call(service, "ApplyVirtualSystemSnapshot",
                       ComputerSystem=dcom.path(vm), SnapshotSettingData=dcom.path(snapshot))
    assert answer.ReturnValue == COMPLETED
    dcom.follow(dcom.call(service, "RemoveVirtualSystemSnapshot",
                          SnapshotSettingData=dcom.path(snapshot)))
    with pytest.raises(Failed) as gone:
        session.get(path_of(snapshot))
    assert gone.value.code == 0x80041002
    if session.get(path_of(vm)).EnabledState != DISABLED:
        dcom.follow(dcom.call(vm, "RequestStateChange", RequestedState=OFF,
                          TimeoutPeriod=NO_TIME))
    dcom.follow(dcom.call(service, "DestroyVirtualSystem",
                          ComputerSystem=dcom.path(vm)))
    assert session.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm.Name}'") == []


def test_a_viewer_reads_and_changes_nothing(service):
    with Impacket(service.dcom_port(), "watcher", PASSWORD) as session:
        dcom = Dcom(session)
        before = len(session.query("SELECT * FROM Msvm_ComputerSystem"))
        answer = dcom.call(dcom.service, "DefineVirtualSystem", SystemSettingData="",
                           ResourceSettingData=[], SourceSetting="")
        assert answer.ReturnValue == ACCESS_DENIED
        assert len(session.query("SELECT * FROM Msvm_ComputerSystem")) == before
