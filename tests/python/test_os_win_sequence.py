"""What OpenStack's os-win does with V2, over DCOM: settings as whole texts with every property, parts
found by the start of their InstanceID, resources added to the machine's own path, jobs read by their
path until they end."""

import time

import pywbem
import pytest

from conftest import PASSWORD
from dcom_client import Failed, Impacket, path_of, raw, wmi_type
from v1_client import COMPLETED, STARTED, image, text

NAMESPACE = "//./root/virtualization/v2"
SETTINGS = "Msvm_VirtualSystemSettingData"
GENERIC = "Msvm_ResourceAllocationSettingData"
STORAGE = "Msvm_StorageAllocationSettingData"
REALIZED = "Microsoft:Hyper-V:System:Realized"
ENABLED, DISABLED, OFFLINE, QUIESCE, RESET = 2, 3, 6, 9, 11
ENDED, SNAPSHOT_FULL = (7, 8, 9, 10, 32768), 2
# impacket cannot leave out an argument.
NO_TIME = "00000000000000.000000:000"


class OsWin:
    def __init__(self, session):
        self.session = session
        self.service = session.one("SELECT * FROM Msvm_VirtualSystemManagementService")
        self.snapshots = session.one("SELECT * FROM Msvm_VirtualSystemSnapshotService")

    def path(self, instance):
        return f"\\\\127.0.0.1\\root\\virtualization\\v2:{path_of(instance)}"

    def text(self, instance, **changes):
        """GetText_(1) of an instance that came over DCOM, changed."""
        own = pywbem.CIMInstance(instance.getClassName())
        for name, each in instance.getProperties().items():
            (kind, is_array), value = wmi_type(each["type"]), each["value"]
            if each["null_default"]:
                value = None
            if kind == "boolean" and isinstance(value, str):
                value = value == "True"
            if kind == "object":
                continue
            own[name] = pywbem.CIMProperty(name, value, type=kind, is_array=is_array)
        return text(own, **changes)

    def call(self, target, method, **arguments):
        return self.session.invoke(target, method, **arguments)

    def done(self, answer):
        """`check_ret_val`, and the wait for the job."""
        assert answer.ReturnValue in (COMPLETED, STARTED), answer.ReturnValue
        if answer.ReturnValue == COMPLETED:
            return None
        end = time.monotonic() + 120
        while (job := self.session.get(answer.Job)).JobState not in ENDED:
            assert time.monotonic() < end, raw(job)
            time.sleep(0.1)
        assert (job.JobState, job.ErrorCode) == (7, 0), raw(job)
        return job

    def create(self, name, folder):
        blank = pywbem.CIMInstance(SETTINGS, {
            "ElementName": name, "Notes": ["os-win", "notes"],
            "ConfigurationDataRoot": str(folder), "LogDataRoot": str(folder),
            "SnapshotDataRoot": str(folder), "SuspendDataRoot": str(folder),
            "SwapFileDataRoot": str(folder), "AutomaticStartupAction": pywbem.Uint16(2),
            "AutomaticShutdownAction": pywbem.Uint16(2), "VirtualNumaEnabled": False})
        answer = self.call(self.service, "DefineSystem", ResourceSettings=[],
                           ReferenceConfiguration="", SystemSettings=text(blank))
        self.done(answer)
        return self.session.get(answer.ResultingSystem)

    def settings(self, name):
        return self.session.one(f"SELECT * FROM {SETTINGS} WHERE ElementName = '{name}' AND "
                                f"VirtualSystemType = '{REALIZED}'")

    def parts(self, vm, class_name, sub_type=None):
        found = self.session.query(
            f"SELECT * FROM {class_name} WHERE InstanceID LIKE 'Microsoft:{vm.Name}%'")
        return [it for it in found if sub_type in (None, it.ResourceSubType)]

    def modify(self, part, **changes):
        self.done(self.call(self.service, "ModifyResourceSettings",
                            ResourceSettings=[self.text(part, **changes)]))

    def add(self, vm, sub_type, class_name=GENERIC, **changes):
        """`_get_new_resource_setting_data`, and `_add_virt_resource` with the machine's path."""
        template = self.session.one(
            f"SELECT * FROM {class_name} WHERE ResourceSubType = '{sub_type}' AND "
            "InstanceID LIKE '%\\\\Default'")
        answer = self.call(self.service, "AddResourceSettings",
                           AffectedConfiguration=self.path(vm),
                           ResourceSettings=[self.text(template, **changes)])
        self.done(answer)
        added = self.parts(vm, class_name, sub_type)
        assert added
        return added[-1]

    def attach(self, vm, controller, slot, file):
        drive = self.add(vm, "Microsoft:Hyper-V:Synthetic Disk Drive",
                         Parent=self.path(controller), Address=slot, AddressOnParent=str(slot))
        disk = self.add(vm, "Microsoft:Hyper-V:Virtual Hard Disk", STORAGE,
                        Parent=self.path(drive), HostResource=[file])
        return drive, disk

    def state(self, vm):
        return self.session.get(path_of(vm)).EnabledState

    def bring(self, vm, state):
        return self.done(self.call(vm, "RequestStateChange", RequestedState=state,
                                   TimeoutPeriod=NO_TIME))

    def related(self, instance, rest):
        return self.session.query(f"ASSOCIATORS OF {{{path_of(instance)}}} WHERE {rest}")


@pytest.fixture(scope="module")
def os_win(service):
    with Impacket(service.dcom_port(), "admin", PASSWORD, NAMESPACE, privacy=True) as session:
        yield OsWin(session)


def test_a_machine_from_creation_to_destruction(os_win, tmp_path):
    session = os_win.session
    vm = os_win.create("instance-1", tmp_path)
    assert os_win.state(vm) == DISABLED
    assert "instance-1" in [it.ElementName for it in session.query(
        f"SELECT ElementName FROM {SETTINGS} WHERE VirtualSystemType = '{REALIZED}'")]
    assert raw(os_win.settings("instance-1"))["Notes"] == ["os-win", "notes"]

    # Memory and processors.
    memory, = os_win.parts(vm, "Msvm_MemorySettingData")
    os_win.modify(memory, VirtualQuantity=32, Reservation=32, Limit=32, DynamicMemoryEnabled=False)
    processors, = os_win.parts(vm, "Msvm_ProcessorSettingData")
    os_win.modify(processors, VirtualQuantity=2, Reservation=2, Limit=100000)
    assert os_win.parts(vm, "Msvm_ProcessorSettingData")[0].VirtualQuantity == 2

    # Disks: one on the first IDE controller, one on a SCSI controller that is added.
    ide = [it for it in os_win.parts(vm, GENERIC, "Microsoft:Hyper-V:Emulated IDE Controller")
           if it.Address == "0"]
    files = [str(image(tmp_path / f"{number}.img")) for number in range(2)]
    os_win.attach(vm, ide[0], 0, files[0])
    scsi = os_win.add(vm, "Microsoft:Hyper-V:Synthetic SCSI Controller",
                      VirtualSystemIdentifiers=["{ADAADAFF-0000-0000-0000-000000000000}"])
    drive, disk = os_win.attach(vm, scsi, 3, files[1])
    disks = os_win.parts(vm, STORAGE, "Microsoft:Hyper-V:Virtual Hard Disk")
    assert sorted(raw(it)["HostResource"][0] for it in disks) == files
    # Free slots: what is there by the controller's path.
    drives = os_win.parts(vm, GENERIC, "Microsoft:Hyper-V:Synthetic Disk Drive")
    used = [it.AddressOnParent for it in drives if it.Parent.endswith(
        path_of(scsi).split("InstanceID=")[1])]
    assert used == ["3"]

    # Boot order, start, pause, save, hard reboot.
    answer = os_win.call(os_win.service, "ModifySystemSettings", SystemSettings=os_win.text(
        os_win.settings("instance-1"), BootOrder=[2, 1, 0, 3]))
    os_win.done(answer)
    assert raw(os_win.settings("instance-1"))["BootOrder"] == [2, 1, 0, 3]
    for state in (ENABLED, QUIESCE, ENABLED, OFFLINE, ENABLED):
        os_win.bring(vm, state)
        assert os_win.state(vm) == state
    os_win.bring(vm, RESET)
    again = os_win.call(vm, "RequestStateChange", RequestedState=ENABLED, TimeoutPeriod=NO_TIME)
    assert again.ReturnValue == 32775

    # The summary.
    answer = os_win.call(
        os_win.service, "GetSummaryInformation", RequestedInformation=[4, 100, 103, 105],
        SettingData=[os_win.path(os_win.settings("instance-1"))])
    assert answer.ReturnValue == COMPLETED

    # Jobs of the machine, by the association's reference.
    escaped = os_win.path(vm).replace("\\", "\\\\").replace('"', '\\"')
    affected = session.query(
        f'SELECT * FROM Msvm_AffectedJobElement WHERE AffectedElement = "{escaped}"')
    assert {session.get(it.AffectingElement).JobState for it in affected} == {7}

    # A disk is taken away, then its drive.
    os_win.bring(vm, DISABLED)
    for part in (disk, drive):
        os_win.done(os_win.call(os_win.service, "RemoveResourceSettings",
                                ResourceSettings=[os_win.path(part)]))
    assert len(os_win.parts(vm, STORAGE, "Microsoft:Hyper-V:Virtual Hard Disk")) == 1
    os_win.done(os_win.call(os_win.service, "DestroySystem", AffectedSystem=os_win.path(vm)))
    with pytest.raises(Failed) as gone:
        session.get(path_of(vm))
    assert gone.value.code == 0x80041002


def test_a_snapshot_from_creation_to_removal(os_win, tmp_path):
    vm = os_win.create("instance-2", tmp_path)
    job = os_win.done(os_win.call(
        os_win.snapshots, "CreateSnapshot", AffectedSystem=os_win.path(vm), SnapshotSettings="",
        SnapshotType=SNAPSHOT_FULL, ResultingSnapshot=""))
    snapshot, = os_win.related(
        job, f"AssocClass = Msvm_AffectedJobElement ResultClass = {SETTINGS}")
    # It gets a name of one's own.
    os_win.done(os_win.call(os_win.service, "ModifySystemSettings",
                            SystemSettings=os_win.text(snapshot, ElementName="before")))
    listed = os_win.related(
        vm, f"AssocClass = Msvm_SnapshotOfVirtualSystem ResultClass = {SETTINGS}")
    assert [it.ElementName for it in listed] == ["before"]
    os_win.done(os_win.call(os_win.snapshots, "DestroySnapshot",
                            AffectedSnapshot=os_win.path(snapshot)))
    assert os_win.related(
        vm, f"AssocClass = Msvm_SnapshotOfVirtualSystem ResultClass = {SETTINGS}") == []
    os_win.done(os_win.call(os_win.service, "DestroySystem", AffectedSystem=os_win.path(vm)))
