"""What V2 clients do over and over: embedded instances with the changed properties alone, machines
and snapshots by the V2 services, both namespaces looked at side by side."""

import itertools

import pywbem

from conftest import JOB_COMPLETED, follow
from v1_client import STARTED, escape

V1, V2 = "root/virtualization", "root/virtualization/v2"
SETTINGS = "Msvm_VirtualSystemSettingData"
REALIZED = "Microsoft:Hyper-V:System:Realized"
SNAPSHOT = "Microsoft:Hyper-V:Snapshot:Realized"
ENABLED, DISABLED, SHUT_DOWN, OFFLINE, QUIESCE, RESET = 2, 3, 4, 6, 9, 11
numbers = itertools.count(1)


def embedded(class_name, **properties):
    """An embedded instance as libvirt writes it: names and types, nothing else."""
    lines = [f'<INSTANCE CLASSNAME="{class_name}">']
    for name, value in properties.items():
        if isinstance(value, list):
            values = "".join(f"<VALUE>{escape(str(each))}</VALUE>" for each in value)
            lines.append(f'<PROPERTY.ARRAY NAME="{name}" TYPE="string">'
                         f"<VALUE.ARRAY>{values}</VALUE.ARRAY></PROPERTY.ARRAY>")
        else:
            lines.append(f'<PROPERTY NAME="{name}" TYPE="string">'
                         f"<VALUE>{escape(str(value))}</VALUE></PROPERTY>")
    return "".join(lines) + "</INSTANCE>"


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.service = self.only("Msvm_VirtualSystemManagementService")
        self.snapshot_service = self.only("Msvm_VirtualSystemSnapshotService")

    def only(self, class_name):
        return self.connection.EnumerateInstances(class_name, namespace=V2)[0]

    def query(self, text, namespace=V2):
        return self.connection.ExecQuery("WQL", text, namespace=namespace)

    def one(self, text, namespace=V2):
        found = self.query(text, namespace)
        assert len(found) == 1, (text, found)
        return found[0]

    def call(self, method, **arguments):
        return self.connection.InvokeMethod(method, self.service.path, **arguments)

    def snapshots(self, method, **arguments):
        return self.connection.InvokeMethod(method, self.snapshot_service.path, **arguments)

    def ends(self, called):
        code, out = called
        assert code == STARTED, (code, out)
        job = follow(self.connection, out["Job"])
        assert job["JobState"] == JOB_COMPLETED, job.tomof()
        assert job["ErrorCode"] == 0
        return job

    def define(self, name=None, **settings):
        name = name or f"v2-{next(numbers)}"
        code, out = self.call(
            "DefineSystem", SystemSettings=embedded(SETTINGS, ElementName=name, **settings))
        assert (code, out.get("Job")) == (0, None), (code, out)
        return self.connection.GetInstance(out["ResultingSystem"])

    def state(self, system):
        return self.connection.GetInstance(system.path)["EnabledState"]

    def request(self, system, state):
        return self.connection.InvokeMethod(
            "RequestStateChange", system.path, RequestedState=pywbem.Uint16(state))

    def destroy(self, system):
        return self.ends(self.call("DestroySystem", AffectedSystem=system.path))

    def settings(self, system):
        found = self.connection.Associators(
            system.path, AssocClass="Msvm_SettingsDefineState", ResultClass=SETTINGS)
        assert len(found) == 1
        return found[0]

    def resources(self, settings, class_name):
        return self.connection.Associators(
            settings.path, AssocClass="Msvm_VirtualSystemSettingDataComponent",
            ResultClass=class_name)

    def snapshot(self, system):
        job = self.ends(self.snapshots(
            "CreateSnapshot", AffectedSystem=system.path, SnapshotType=pywbem.Uint16(2)))
        made = self.connection.Associators(
            job.path, AssocClass="Msvm_AffectedJobElement", ResultClass=SETTINGS)
        assert len(made) == 1
        return made[0]

    def linked(self, of, association, **more):
        """Instance ids of the settings that an association leads to."""
        names = self.connection.AssociatorNames(
            of.path, AssocClass=association, ResultClass=SETTINGS, **more)
        return [name.keybindings["InstanceID"] for name in names]
