"""What V1 clients do over and over, as they do it: settings as GetText(1) texts, devices cloned from
the default templates, parents named by WMI paths, results read from the first answer."""

import itertools
import subprocess
from xml.sax.saxutils import escape

import pywbem

from conftest import JOB_COMPLETED, follow

COMPLETED, STARTED = 0, 4096
ACCESS_DENIED, NOT_SUPPORTED, TIMEOUT, INVALID_PARAMETER, IN_USE, INVALID_STATE, NOT_AVAILABLE = (
    32769, 32770, 32772, 32773, 32774, 32775, 32777)
RUN, OFF, RESET, PAUSE, SAVE = 2, 3, 10, 32768, 32769
ENABLED, DISABLED, PAUSED, SUSPENDED = 2, 3, 32768, 32769

SETTINGS = "Msvm_VirtualSystemSettingData"
RESOURCE = "Msvm_ResourceAllocationSettingData"
numbers = itertools.count(1)


def wmi_path(path, host="HOST"):
    """A path as WMI writes it: backslashes in keys doubled."""
    keys = ",".join(
        '{}="{}"'.format(name, str(value).replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in sorted(path.keybindings.items()))
    return f"\\\\{host}\\root\\virtualization:{path.classname}.{keys}"


def value_text(value):
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return escape(str(value))


def text(instance, **changes):
    """An instance as GetText with format 1 writes it, system properties and all."""
    instance = instance.copy()
    given = {name.lower(): value for name, value in changes.items()}
    lines = [f'<INSTANCE CLASSNAME="{instance.classname}">']
    path = wmi_path(instance.path) if instance.path else None
    relative = path.split(":", 1)[1] if path else None
    for name, type_, value in [
            ("__PATH", "string", path), ("__NAMESPACE", "string", "root\\virtualization"),
            ("__SERVER", "string", "HOST"), ("__PROPERTY_COUNT", "sint32", 22),
            ("__RELPATH", "string", relative), ("__DYNASTY", "string", "CIM_ManagedElement"),
            ("__CLASS", "string", instance.classname), ("__GENUS", "sint32", 2)]:
        inner = "" if value is None else f"<VALUE>{value_text(value)}</VALUE>"
        lines.append(f'<PROPERTY NAME="{name}" CLASSORIGIN="___SYSTEM" TYPE="{type_}">'
                     f"{inner}</PROPERTY>")
    lines.append('<PROPERTY.ARRAY NAME="__DERIVATION" CLASSORIGIN="___SYSTEM" TYPE="string">'
                 "<VALUE.ARRAY><VALUE>CIM_SettingData</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>")
    for name, each in sorted(instance.properties.items()):
        value = given.pop(name.lower(), each.value)
        origin = f'NAME="{name}" CLASSORIGIN="CIM_SettingData" TYPE="{each.type}"'
        spread = ' PROPAGATED="true"' if value is None else ""
        if each.is_array:
            inner = "" if value is None else "<VALUE.ARRAY>" + "".join(
                f"<VALUE>{value_text(item)}</VALUE>" for item in value) + "</VALUE.ARRAY>"
            lines.append(f"<PROPERTY.ARRAY {origin}{spread}>{inner}</PROPERTY.ARRAY>")
        else:
            inner = "" if value is None else f"<VALUE>{value_text(value)}</VALUE>"
            lines.append(f"<PROPERTY {origin}{spread}>{inner}</PROPERTY>")
    assert not given, f"{instance.classname} has no {list(given)}"
    return "".join(lines) + "</INSTANCE>"


def image(path, kind="raw", size="1M"):
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, size], check=True)
    return path


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.service = connection.EnumerateInstances("Msvm_VirtualSystemManagementService")[0]

    def query(self, text):
        return self.connection.ExecQuery("WQL", text)

    def one(self, text):
        found = self.query(text)
        assert len(found) == 1, (text, found)
        return found[0]

    def call(self, method, **arguments):
        return self.connection.InvokeMethod(method, self.service.path, **arguments)

    def ends(self, called):
        """The job of a call that started one."""
        code, out = called
        assert code == STARTED, (code, out)
        job = follow(self.connection, out["Job"])
        assert job["JobState"] == JOB_COMPLETED, job.tomof()
        return job

    def define(self, name=None, **settings):
        settings["ElementName"] = name = name or f"small{next(numbers)}"
        blank = self.connection.GetClass(
            "Msvm_VirtualSystemGlobalSettingData", LocalOnly=False)
        new = pywbem.CIMInstance(blank.classname, [
            pywbem.CIMProperty(each.name, None, type=each.type, is_array=each.is_array)
            for each in blank.properties.values()])
        code, out = self.call("DefineVirtualSystem", SystemSettingData=text(new, **settings),
                              ResourceSettingData=[], SourceSetting=None)
        assert (code, out.get("Job")) == (COMPLETED, None), (code, out)
        return self.connection.GetInstance(out["DefinedSystem"])

    def settings(self, vm):
        return [each for each in self.connection.Associators(vm.path, ResultClass=SETTINGS)
                if each["SettingType"] == 3][0]

    def resources(self, settings, class_name=RESOURCE):
        return self.connection.Associators(settings.path, ResultClass=class_name)

    def template(self, sub_type):
        return self.one(f"SELECT * FROM {RESOURCE} WHERE ResourceSubType = '{sub_type}' "
                        r"AND InstanceID LIKE '%\Default'")

    def add(self, vm, *texts):
        code, out = self.call("AddVirtualSystemResources", TargetSystem=vm.path,
                              ResourceSettingData=list(texts))
        assert (code, out.get("Job")) == (COMPLETED, None), (code, out)
        return [self.connection.GetInstance(path) for path in out["NewResources"]]

    def modify(self, vm, *texts):
        return self.call("ModifyVirtualSystemResources", ComputerSystem=vm.path,
                         ResourceSettingData=list(texts))

    def remove(self, vm, *paths):
        return self.call("RemoveVirtualSystemResources", TargetSystem=vm.path,
                         ResourceSettingData=list(paths))

    def controller(self, vm, address="0"):
        found = [each for each in self.resources(self.settings(vm))
                 if each["ResourceSubType"] == "Microsoft Emulated IDE Controller"
                 and each["Address"] == address]
        assert len(found) == 1
        return found[0]

    def attach(self, vm, controller, slot, file, drive="Microsoft Synthetic Disk Drive",
               medium="Microsoft Virtual Hard Disk"):
        added, = self.add(vm, text(self.template(drive), Parent=wmi_path(controller.path),
                                   Address=slot))
        disk, = self.add(vm, text(self.template(medium), Parent=wmi_path(added.path),
                                  Connection=[file]))
        return added, disk

    def request(self, vm, state):
        return self.connection.InvokeMethod(
            "RequestStateChange", vm.path, RequestedState=pywbem.Uint16(state))

    def bring(self, vm, state):
        return self.ends(self.request(vm, state))

    def state(self, vm):
        return self.connection.GetInstance(vm.path)["EnabledState"]

    def destroy(self, vm):
        return self.ends(self.call("DestroyVirtualSystem", ComputerSystem=vm.path))

    def begin_snapshot(self, vm):
        return self.call("CreateVirtualSystemSnapshot", SourceSystem=vm.path)

    def snapshot(self, vm):
        job = self.ends(self.begin_snapshot(vm))
        found = self.connection.Associators(job.path, ResultClass=SETTINGS)
        assert len(found) == 1
        return found[0]

    def apply(self, vm, snapshot):
        return self.call("ApplyVirtualSystemSnapshot", ComputerSystem=vm.path,
                         SnapshotSettingData=snapshot.path)

    def linked(self, vm, association):
        return [each["InstanceID"] for each in self.connection.Associators(
            vm.path, AssocClass=association, ResultClass=SETTINGS)]

    def parent(self, instance):
        """The GUID in what `Parent` names now."""
        parent = self.connection.GetInstance(instance.path)["Parent"]
        return parent and parent.split('InstanceID="', 1)[1].rstrip('"')
