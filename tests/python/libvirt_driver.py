"""What libvirt's driver for Hyper-V sends, and how it reads the answers: openwsman's envelopes, an
enumeration of the whole namespace with one item a pull, queries to the letter, items read property
by property and refused where one is missing, results found by paths with literal prefixes.

Debian's libvirt is built without the driver; this stands in for it. Where the driver gives up, this
fails.
"""

import base64
import re
import time
import uuid
import xml.etree.ElementTree as ET
from http.client import HTTPConnection
from xml.sax.saxutils import escape

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
MANAGEMENT = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
ROOT = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
# What openwsman's XPath knows prefixes of: what the envelope declares, and the body's first child.
DRIVER_PREFIXES = {"s": SOAP, "a": ADDRESSING, "w": MANAGEMENT}

SERVICE = "Msvm_VirtualSystemManagementService"
SERVICE_SELECTOR = f"CreationClassName={SERVICE}"
SETTINGS, GENERIC = "Msvm_VirtualSystemSettingData", "Msvm_ResourceAllocationSettingData"
RUNNING, WAITING, COMPLETED, STARTED = 2, (2, 3, 4, 6), 7, 4096
ENABLED, DISABLED, OFFLINE, QUIESCE, REBOOT, RESET = 2, 3, 6, 9, 10, 11

ELEMENT = "InstanceID Caption Description ElementName InstallDate* Name Status HealthState " \
    "CommunicationStatus DetailedStatus OperatingStatus PrimaryStatus EnabledState " \
    "OtherEnabledState RequestedState EnabledDefault TimeOfLastStateChange TransitioningToState "
DEVICE = ELEMENT + "SystemCreationClassName SystemName CreationClassName DeviceID " \
    "PowerManagementSupported Availability StatusInfo LastErrorCode ErrorDescription " \
    "ErrorCleared PowerOnHours TotalPowerOnHours MaxQuiesceTime "
RESOURCE = "InstanceID Caption Description ElementName ResourceType OtherResourceType " \
    "ResourceSubType PoolID ConsumerVisibility AllocationUnits VirtualQuantity Reservation Limit " \
    "Weight AutomaticAllocation AutomaticDeallocation Parent Address MappingBehavior " \
    "AddressOnParent VirtualQuantityUnits "
# The scalar properties that the driver reads of each class; it has no use for an item without one
# of them. Arrays may be missing.
PROPERTIES = {
    "Win32_ComputerSystemProduct":
        "Caption Description IdentifyingNumber Name SKUNumber UUID Vendor Version",
    "Win32_OperatingSystem":
        "BootDevice BuildNumber BuildType Caption CodeSet CountryCode CreationClassName "
        "CSCreationClassName CSDVersion CSName CurrentTimeZone DataExecutionPrevention_Available "
        "DataExecutionPrevention_32BitApplications DataExecutionPrevention_Drivers "
        "DataExecutionPrevention_SupportPolicy Debug Description Distributed EncryptionLevel "
        "ForegroundApplicationBoost FreePhysicalMemory FreeSpaceInPagingFiles FreeVirtualMemory "
        "InstallDate LargeSystemCache LastBootUpTime LocalDateTime Locale Manufacturer "
        "MaxNumberOfProcesses MaxProcessMemorySize Name NumberOfLicensedUsers NumberOfProcesses "
        "NumberOfUsers OperatingSystemSKU Organization OSArchitecture OSLanguage OSProductSuite "
        "OSType OtherTypeDescription PAEEnabled PlusProductID PlusVersionNumber Primary "
        "ProductType RegisteredUser SerialNumber ServicePackMajorVersion ServicePackMinorVersion "
        "SizeStoredInPagingFiles Status SuiteMask SystemDevice SystemDirectory SystemDrive "
        "TotalSwapSpaceSize TotalVirtualMemorySize TotalVisibleMemorySize Version "
        "WindowsDirectory",
    "Win32_ComputerSystem":
        "AdminPasswordStatus AutomaticManagedPagefile AutomaticResetBootOption "
        "AutomaticResetCapability BootOptionOnLimit BootOptionOnWatchDog BootROMSupported "
        "BootupState Caption ChassisBootupState CreationClassName CurrentTimeZone "
        "DaylightInEffect Description DNSHostName Domain DomainRole EnableDaylightSavingsTime "
        "FrontPanelResetStatus InfraredSupported InstallDate KeyboardPasswordStatus LastLoadInfo "
        "Manufacturer Model Name NameFormat NetworkServerModeEnabled NumberOfLogicalProcessors "
        "NumberOfProcessors PartOfDomain PauseAfterReset PCSystemType PowerManagementSupported "
        "PowerOnPasswordStatus PowerState PowerSupplyState PrimaryOwnerContact PrimaryOwnerName "
        "ResetCapability ResetCount ResetLimit Status SystemStartupDelay SystemStartupSetting "
        "SystemType ThermalState TotalPhysicalMemory UserName WakeUpType Workgroup",
    "Win32_Processor":
        "AddressWidth Architecture Availability Caption ConfigManagerErrorCode "
        "ConfigManagerUserConfig CpuStatus CreationClassName CurrentClockSpeed CurrentVoltage "
        "DataWidth Description DeviceID ErrorCleared ErrorDescription ExtClock Family InstallDate "
        "L2CacheSize L2CacheSpeed L3CacheSize L3CacheSpeed LastErrorCode Level LoadPercentage "
        "Manufacturer MaxClockSpeed Name NumberOfCores NumberOfLogicalProcessors "
        "OtherFamilyDescription PNPDeviceID PowerManagementSupported ProcessorId ProcessorType "
        "Revision Role SocketDesignation Status StatusInfo Stepping SystemCreationClassName "
        "SystemName UniqueId UpgradeMethod Version VoltageCaps",
    # Of more than a hundred, those with values, and some of each kind.
    "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor":
        "AddressDomainFlushesPersec Caption CPUWaitTimePerDispatch_Base Description "
        "Frequency_Object Frequency_PerfTime Frequency_Sys100NS Name PercentGuestRunTime "
        "PercentHypervisorRunTime PercentRemoteRunTime_Base PercentTotalRunTime "
        "Timestamp_Object Timestamp_PerfTime Timestamp_Sys100NS VirtualProcessorHypercallsPersec",
    "Msvm_ComputerSystem":
        ELEMENT + "CreationClassName PrimaryOwnerName PrimaryOwnerContact NameFormat "
        "ResetCapability OnTimeInMilliseconds ProcessID TimeOfLastConfigurationChange "
        "NumberOfNumaNodes ReplicationState ReplicationHealth ReplicationMode "
        "FailedOverReplicationType LastReplicationType LastApplicationConsistentReplicationTime "
        "LastReplicationTime LastSuccessfulBackupTime EnhancedSessionModeState",
    "Msvm_ConcreteJob":
        "InstanceID Caption Description ElementName InstallDate Name Status HealthState "
        "CommunicationStatus DetailedStatus OperatingStatus PrimaryStatus JobStatus "
        "TimeSubmitted ScheduledStartTime StartTime ElapsedTime JobRunTimes RunMonth RunDay "
        "RunDayOfWeek RunStartInterval LocalOrUtcTime UntilTime Notify Owner Priority "
        "PercentComplete DeleteOnCompletion ErrorCode ErrorDescription ErrorSummaryDescription "
        "RecoveryAction OtherRecoveryAction JobState TimeOfLastStateChange TimeBeforeRemoval "
        "Cancellable JobType",
    SETTINGS:
        "InstanceID Caption Description ElementName VirtualSystemIdentifier VirtualSystemType "
        "CreationTime ConfigurationID ConfigurationDataRoot ConfigurationFile SnapshotDataRoot "
        "SuspendDataRoot SwapFileDataRoot LogDataRoot AutomaticStartupAction "
        "AutomaticStartupActionDelay AutomaticStartupActionSequenceNumber "
        "AutomaticShutdownAction AutomaticRecoveryAction RecoveryFile BIOSGUID BIOSSerialNumber "
        "BaseBoardSerialNumber ChassisSerialNumber ChassisAssetTag BIOSNumLock Parent IsSaved "
        "AdditionalRecoveryInformation AllowFullSCSICommandSet DebugChannelId DebugPortEnabled "
        "DebugPort Version IncrementalBackupEnabled VirtualNumaEnabled AllowReducedFcRedundancy "
        "VirtualSystemSubType PauseAfterBootFailure NetworkBootPreferredProtocol "
        "SecureBootEnabled LowMmioGapSize",
    GENERIC: RESOURCE,
    "Msvm_StorageAllocationSettingData": RESOURCE,
    "Msvm_SerialPortSettingData": RESOURCE,
    "Msvm_SyntheticEthernetPortSettingData": RESOURCE,
    "Msvm_EthernetPortAllocationSettingData": RESOURCE,
    "Msvm_VirtualEthernetSwitch": ELEMENT,
    "Msvm_ProcessorSettingData":
        RESOURCE + "LimitCPUID LimitProcessorFeatures MaxProcessorsPerNumaNode "
        "MaxNumaNodesPerSocket",
    "Msvm_MemorySettingData":
        RESOURCE + "DynamicMemoryEnabled TargetMemoryBuffer IsVirtualized SwapFilesInUse "
        "MaxMemoryBlocksPerNumaNode",
    "Msvm_Keyboard":
        DEVICE + "IsLocked Layout NumberOfFunctionKeys Password UnicodeSupported",
    "Msvm_ShutdownComponent": DEVICE,
    "Msvm_S3DisplayController": DEVICE,
    "Msvm_SyntheticDisplayController": DEVICE,
    "Msvm_VideoHead":
        DEVICE + "CurrentBitsPerPixel CurrentHorizontalResolution CurrentVerticalResolution "
        "MaxRefreshRate MinRefreshRate CurrentRefreshRate CurrentScanMode "
        "OtherCurrentScanMode CurrentNumberOfRows CurrentNumberOfColumns CurrentNumberOfColors",
}


class DriverError(Exception):
    """The driver reports an error."""


def quoted(text):
    """As `virBufferEscapeSQL` does."""
    return re.sub(r"(['\\])", r"\\\1", text)


def embedded(class_name, **properties):
    """The text of an instance; `Connection` and the like are lists of one value."""
    parts = []
    for name, value in properties.items():
        array = name in ("HostResource", "Connection", "VirtualSystemIdentifiers", "Notes")
        kind = "PROPERTY.ARRAY" if array else "PROPERTY"
        inner = f"<VALUE>{escape(str(value))}</VALUE>"
        inner = f"<VALUE.ARRAY>{inner}</VALUE.ARRAY>" if array else inner
        parts.append(f'<{kind} NAME="{name}" TYPE="string">{inner}</{kind}>')
    return f'<INSTANCE CLASSNAME="{class_name}">{"".join(parts)}</INSTANCE>'


class Connection:
    """`virsh -c hyperv://user@host/?transport=http`."""

    def __init__(self, address, user, password):
        self.address = address
        host, port = address.rsplit(":", 1)
        self.http = HTTPConnection(host, int(port), timeout=60)
        self.credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.logged_on = False
        product, = self.list("Win32_ComputerSystemProduct", "SELECT * FROM "
                             "Win32_ComputerSystemProduct ")
        self.host_uuid = str(uuid.UUID(product["UUID"]))
        system, = self.list("Win32_OperatingSystem", "SELECT * FROM Win32_OperatingSystem ")
        self.version = system["Version"]
        self.free_memory = int(system["FreePhysicalMemory"])

    # openwsman

    def post(self, action, resource, body, selectors=()):
        """One request and its answer, the latter as the driver sees it: an envelope."""
        message = f"uuid:{uuid.uuid1()}"
        chosen = "".join(f'<wsman:Selector Name="{name}">{escape(value)}</wsman:Selector>'
                         for name, value in selectors)
        chosen = f"<wsman:SelectorSet>{chosen}</wsman:SelectorSet>" if chosen else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{ADDRESSING}" xmlns:wsman="{MANAGEMENT}" '
            f'xmlns:wsen="{ENUMERATION}"><s:Header>'
            f'<wsa:Action s:mustUnderstand="true">{action}</wsa:Action>'
            f'<wsa:To s:mustUnderstand="true">http://{self.address}/wsman</wsa:To>'
            f'<wsman:ResourceURI s:mustUnderstand="true">{resource}</wsman:ResourceURI>'
            f'<wsa:MessageID s:mustUnderstand="true">{message}</wsa:MessageID>'
            f"<wsa:ReplyTo><wsa:Address>{ADDRESSING}/role/anonymous</wsa:Address></wsa:ReplyTo>"
            f"{chosen}</s:Header><s:Body>{body}</s:Body></s:Envelope>\n")
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8",
                   "User-Agent": "Openwsman", "Accept": "*/*"}
        if not self.logged_on:
            # The first request goes out without credentials, in full.
            self.http.request("POST", "/wsman", text.encode(), headers)
            answer = self.http.getresponse()
            answer.read()
            offered = answer.headers.get_all("WWW-Authenticate")
            assert answer.status == 401 and any(it.startswith("Basic") for it in offered), offered
            self.logged_on = True
        headers["Authorization"] = f"Basic {self.credentials}"
        self.http.request("POST", "/wsman", text.encode(), headers)
        answer = self.http.getresponse()
        content = answer.read()
        assert answer.status in (200, 400, 500), (answer.status, content)
        self.raw = content.decode()
        envelope = ET.fromstring(content)
        assert envelope.findtext(f".//{{{ADDRESSING}}}RelatesTo") == message
        return envelope

    def checked(self, envelope):
        reason = envelope.find(f".//{{{SOAP}}}Fault/{{{SOAP}}}Reason/{{{SOAP}}}Text")
        if reason is not None:
            raise DriverError(reason.text)
        return envelope

    def enumerate(self, namespace, query, mode=""):
        mode = mode and f"<wsman:EnumerationMode>{mode}</wsman:EnumerationMode>"
        answer = self.checked(self.post(
            f"{ENUMERATION}/Enumerate", f"{ROOT}{namespace}/*",
            f'<wsen:Enumerate>{mode}<wsman:Filter Dialect="{WQL}">{escape(query)}</wsman:Filter>'
            "</wsen:Enumerate>"))
        return answer.findtext(f".//{{{ENUMERATION}}}EnumerationContext")

    def pull(self, resource, context):
        answer = self.checked(self.post(
            f"{ENUMERATION}/Pull", resource, "<wsen:Pull><wsen:EnumerationContext>"
            f"{context}</wsen:EnumerationContext></wsen:Pull>"))
        items = answer.find(f"{{{SOAP}}}Body/{{{ENUMERATION}}}PullResponse/"
                            f"{{{ENUMERATION}}}Items")
        assert items is not None, "Could not lookup pull response items"
        return items, answer.findtext(f".//{{{ENUMERATION}}}EnumerationContext")

    # The driver's `hyperv_wmi.c`

    def list(self, class_name, query):
        """`hypervGetWmiClass`."""
        namespace = "cimv2" if class_name.startswith("Win32_") else "virtualization/v2"
        resource = f"{ROOT}{namespace}/{class_name}"
        found, context = [], self.enumerate(namespace, query)
        while context:
            items, context = self.pull(resource, context)
            item = items.find(f"{{{resource}}}{class_name}")
            if item is None:
                break
            found.append(self.deserialized(class_name, resource, item))
        return found

    def deserialized(self, class_name, resource, item):
        values = {}
        for name in PROPERTIES[class_name].replace("*", "").split():
            of_name = item.findall(f"{{{resource}}}{name}")
            assert len(of_name) == 1, f"{class_name}.{name}: {len(of_name)} in an item"
            null = of_name[0].get(NIL) == "true"
            values[name] = None if null else of_name[0].text or ""
        for child in item:
            name = child.tag.rsplit("}", 1)[1]
            if name not in values and child.get(NIL) != "true":
                values.setdefault(f"{name}[]", []).append(child.text or "")
        return values

    def reference(self, query, method_resource):
        """The parts of the first endpoint reference of a query, copied as they are."""
        context = self.enumerate("virtualization/v2", query, "EnumerateEPR")
        items, _ = self.pull(method_resource, context)
        reference = items.find(f"{{{ADDRESSING}}}EndpointReference")
        assert reference is not None, "Could not get EPR items"
        parts = [reference.find(f"{{{ADDRESSING}}}{name}")
                 for name in ("Address", "ReferenceParameters")]
        return "".join(ET.tostring(part, encoding="unicode") for part in parts)

    def invoke(self, class_name, method, selector, parameters):
        """`hypervInvokeMethod`: parameters are texts, ("EPR", query) or ("CDATA", instance)."""
        resource = f"{ROOT}virtualization/v2/{class_name}"
        body = ""
        for name, value in parameters.items():
            if isinstance(value, tuple) and value[0] == "EPR":
                inner = self.reference(value[1], resource)
                body += f'<p:{name} xmlns:a="{ADDRESSING}" xmlns:w="{MANAGEMENT}">{inner}</p:{name}>'
            elif isinstance(value, tuple):
                body += f"<p:{name}><![CDATA[{value[1]}]]></p:{name}>"
            else:
                body += f"<p:{name}>{escape(value)}</p:{name}>"
        body = f'<p:{method}_INPUT xmlns:p="{resource}">{body}</p:{method}_INPUT>'
        # openwsman takes quotes off.
        selectors = [(name, value.strip('"')) for name, _, value in
                     (one.partition("=") for one in selector.split("&"))]
        answer = self.post(f"{resource}/{method}", resource, body, selectors)
        output = answer.find(f"{{{SOAP}}}Body/{{{resource}}}{method}_OUTPUT")
        self.checked(answer)
        # Its expressions have these prefixes.
        assert f'<p:{method}_OUTPUT xmlns:p="{resource}"' in self.raw, self.raw
        head = self.raw[:self.raw.index("Header")]
        assert all(f'xmlns:{it}="{uri}"' in head for it, uri in DRIVER_PREFIXES.items()), head
        code = int(output.findtext(f"{{{resource}}}ReturnValue"))
        if code == STARTED:
            job = output.find(
                f"{{{resource}}}Job/{{{ADDRESSING}}}ReferenceParameters/"
                f"{{{MANAGEMENT}}}SelectorSet/{{{MANAGEMENT}}}Selector[@Name='InstanceID']").text
            self.wait(job)
        elif code != 0:
            raise DriverError(f"Invocation of {method} returned an error: {code}")
        return answer

    def wait(self, job):
        for _ in range(3000):
            found, = self.list("Msvm_ConcreteJob",
                               f"SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = '{job}'")
            state = int(found["JobState"])
            if state == COMPLETED:
                return
            if state not in WAITING:
                raise DriverError(f"job in state {state}: {found['ErrorDescription']}")
            time.sleep(0.1)
        raise DriverError("Timeout waiting for a job")

    # `hyperv_driver.c`: the host

    def computer(self):
        found, = self.list("Win32_ComputerSystem", "SELECT * FROM Win32_ComputerSystem ")
        return found

    def processors(self):
        return self.list(
            "Win32_Processor",
            f"ASSOCIATORS OF {{Win32_ComputerSystem.Name='{self.computer()['Name']}'}} WHERE "
            "AssocClass = Win32_ComputerSystemProcessor ResultClass = Win32_Processor")

    def most_processors(self):
        found = self.list("Msvm_ProcessorSettingData", "SELECT * FROM Msvm_ProcessorSettingData "
                          "WHERE InstanceID LIKE 'Microsoft:Definition%Maximum'")
        return int(found[0]["VirtualQuantity"])

    def domains(self, condition=""):
        return self.list("Msvm_ComputerSystem", "SELECT * FROM Msvm_ComputerSystem WHERE "
                         f"Name != __SERVER {condition}")

    def active(self):
        return self.domains(
            "AND (EnabledState != 0 and EnabledState != 3 and EnabledState != 32769) ")

    def inactive(self):
        return self.domains("AND (EnabledState = 0 or EnabledState = 3 or EnabledState = 32769) ")

    def networks(self):
        return self.list("Msvm_VirtualEthernetSwitch",
                         "SELECT * FROM Msvm_VirtualEthernetSwitch WHERE HealthState = 5")

    def by_name(self, name):
        found = self.domains(f"AND ElementName = '{quoted(name)}'")
        if not found:
            raise DriverError(f"No domain with name {name}")
        assert len(found) == 1
        return Domain(self, found[0])


class Domain:
    """A machine, known by the lower-case form of its UUID."""

    def __init__(self, connection, system):
        self.connection = connection
        self.name = system["ElementName"]
        self.uuid = str(uuid.UUID(system["Name"]))

    def system(self):
        found = self.connection.domains(f"AND Name = '{self.uuid}'")
        assert len(found) == 1
        return found[0]

    def state(self):
        return int(self.system()["EnabledState"])

    def related(self, rest, class_name):
        return self.connection.list(
            class_name, "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName="
            f"'Msvm_ComputerSystem',Name='{self.uuid}'}} WHERE {rest}ResultClass = {class_name}")

    def settings(self):
        found, = self.related("AssocClass = Msvm_SettingsDefineState ", SETTINGS)
        return found

    def parts(self, class_name):
        return self.connection.list(
            class_name, f"ASSOCIATORS OF {{{SETTINGS}.InstanceID="
            f"'{quoted(self.settings()['InstanceID'])}'}} WHERE AssocClass = "
            f"Msvm_VirtualSystemSettingDataComponent ResultClass = {class_name}")

    def request(self, state):
        """`hypervInvokeMsvmComputerSystemRequestStateChange`."""
        self.connection.invoke(
            "Msvm_ComputerSystem", "RequestStateChange",
            f"Name={self.uuid}&CreationClassName=Msvm_ComputerSystem",
            {"RequestedState": str(state)})

    def shutdown(self):
        component, = self.connection.list(
            "Msvm_ShutdownComponent",
            f"SELECT * FROM Msvm_ShutdownComponent WHERE SystemName = '{self.uuid}'")
        self.connection.invoke(
            "Msvm_ShutdownComponent", "InitiateShutdown",
            'CreationClassName="Msvm_ShutdownComponent"&'
            f'DeviceID="{component["DeviceID"]}"&'
            f'SystemCreationClassName="Msvm_ComputerSystem"&SystemName="{self.uuid}"',
            {"Force": "False", "Reason": "Planned shutdown via libvirt"})

    def send_keys(self, *codes):
        keyboard, = self.related("", "Msvm_Keyboard")
        for method in ("PressKey", "ReleaseKey"):
            for code in codes:
                self.connection.invoke(
                    "Msvm_Keyboard", method, "CreationClassName=Msvm_Keyboard&"
                    f"DeviceID={keyboard['DeviceID']}&"
                    f"SystemCreationClassName=Msvm_ComputerSystem&SystemName={self.uuid}",
                    {"keyCode": str(code)})

    def resolution(self):
        for display in ("Msvm_SyntheticDisplayController", "Msvm_S3DisplayController"):
            found = self.connection.list(
                display, f"SELECT * FROM {display} WHERE SystemName = '{self.uuid}'")
            if not found:
                continue
            heads = self.connection.list(
                "Msvm_VideoHead",
                f"ASSOCIATORS OF {{{display}.CreationClassName='{display}',"
                f"DeviceID='{found[0]['DeviceID']}',"
                "SystemCreationClassName='Msvm_ComputerSystem',"
                f"SystemName='{self.uuid}'}} WHERE AssocClass = Msvm_VideoHeadOnController "
                "ResultClass = Msvm_VideoHead")
            if heads and heads[0]["EnabledState"] == "2":
                return (int(heads[0]["CurrentHorizontalResolution"]),
                        int(heads[0]["CurrentVerticalResolution"]))
        raise DriverError("no video head")

    def screenshot(self):
        width, height = self.resolution()
        answer = self.service(
            "GetVirtualSystemThumbnailImage", WidthPixels=str(width), HeightPixels=str(height),
            TargetSystem=("EPR", "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName="
                          f"'Msvm_ComputerSystem',Name='{self.uuid}'}} WHERE "
                          f"ResultClass = {SETTINGS}"))
        data = answer.find(f".//{{{ROOT}virtualization/v2/{SERVICE}}}ImageData").text
        return width, height, base64.b64decode(data)

    def service(self, method, **parameters):
        return self.connection.invoke(SERVICE, method, SERVICE_SELECTOR, parameters)

    def processor_times(self, count):
        """`hypervDomainGetVcpus`, in nanoseconds; none for a processor that does not run."""
        counters = "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor"
        found = [self.connection.list(counters, f"SELECT * FROM {counters} WHERE Name = "
                                      f"'{quoted(f'{self.name}:Hv VP {number}')}'")
                 for number in range(count)]
        return [int(it[0]["PercentTotalRunTime"]) * 100 if it else None for it in found]

    def modify(self, class_name, **properties):
        part, = self.parts(class_name)
        self.service("ModifyResourceSettings", ResourceSettings=(
            "CDATA", embedded(class_name, **properties, InstanceID=part["InstanceID"])))

    def set_processors(self, count):
        self.modify("Msvm_ProcessorSettingData", VirtualQuantity=count)

    def set_memory(self, mebibytes, name="VirtualQuantity"):
        self.modify("Msvm_MemorySettingData", **{name: mebibytes})

    def set_autostart(self, on):
        self.service("ModifySystemSettings", SystemSettings=("CDATA", embedded(
            SETTINGS, AutomaticStartupAction=4 if on else 2,
            InstanceID=self.settings()["InstanceID"])))

    def add(self, class_name, **properties):
        """`hypervMsvmVSMSAddResourceSettings`: the first InstanceID of the answer is the new
        resource's."""
        answer = self.service(
            "AddResourceSettings",
            AffectedConfiguration=("EPR", f"SELECT * FROM {SETTINGS} WHERE InstanceID="
                                   f"'{self.settings()['InstanceID']}'"),
            ResourceSettings=("CDATA", embedded(class_name, **properties)))
        return answer.find(f".//{{{MANAGEMENT}}}Selector[@Name='InstanceID']").text

    def path(self, instance_id):
        host, escaped = self.connection.computer()["Name"], instance_id.replace("\\", "\\\\")
        return f'\\\\{host}\\Root\\Virtualization\\V2:{GENERIC}.InstanceID="{escaped}"'

    def attach_disk(self, controller, slot, file, drive="Microsoft:Hyper-V:Synthetic Disk Drive",
                    medium="Microsoft:Hyper-V:Virtual Hard Disk"):
        kind = 16 if "DVD" in drive else 17
        drive = self.add(GENERIC, Parent=self.path(controller["InstanceID"]),
                         AddressOnParent=slot, ResourceType=kind, ResourceSubType=drive)
        self.add(GENERIC, Parent=self.path(drive), HostResource=file, ResourceType=31,
                 ResourceSubType=medium)

    def attach_serial(self, number, path):
        port, = (it for it in self.parts(GENERIC)
                 if it["ResourceType"] == "21" and it["ElementName"] == f"COM {number}")
        self.service("ModifyResourceSettings", ResourceSettings=("CDATA", embedded(
            GENERIC, Connection=path, InstanceID=port["InstanceID"],
            ResourceType=port["ResourceType"], ResourceSubType=port["ResourceSubType"])))

    def controllers(self):
        """IDE channels by number and SCSI controllers in order."""
        parts = self.parts(GENERIC)
        ide = {it["Address"][0]: it for it in parts if it["ResourceType"] == "5"}
        return ide, [it for it in parts if it["ResourceType"] == "6"]

    def description(self):
        """What `dumpxml` tells, as facts."""
        settings, parts = self.settings(), self.parts(GENERIC)
        assert parts, "Could not look up resource allocation setting data"
        memory, = self.parts("Msvm_MemorySettingData")
        processor, = self.parts("Msvm_ProcessorSettingData")

        def parent(of):
            escaped = lambda it: it["InstanceID"].replace("\\", "\\\\") + '"'
            found, = (it for it in parts if of["Parent"].endswith(escaped(it)))
            return found

        ide, scsi = self.controllers()
        assert sorted(ide) == ["0", "1"]
        disks = []
        for disk in self.parts("Msvm_StorageAllocationSettingData"):
            drive = parent(disk)
            controller = parent(drive)
            bus, index = ("ide", int(controller["Address"])) \
                if controller["ResourceType"] == "5" else ("scsi", scsi.index(controller))
            kind = "cdrom" if "CD/DVD" in disk["ResourceSubType"] else "disk"
            disks.append((kind, bus, index, int(drive["AddressOnParent"]), disk["HostResource[]"]))
        self.parts("Msvm_SerialPortSettingData")
        # With this version the driver looks for ports among the generic resources.
        assert self.connection.version.startswith("6.")
        ports = [(it["ElementName"], it["Connection[]"]) for it in parts
                 if it["ResourceType"] == "21" and any(it.get("Connection[]", []))]
        return {
            "name": settings["ElementName"], "memory": int(memory["VirtualQuantity"]),
            "most": int(memory["Limit"]), "processors": int(processor["VirtualQuantity"]),
            "notes": settings.get("Notes[]"), "disks": disks, "ports": ports,
            "networks": self.parts("Msvm_EthernetPortAllocationSettingData")}

    def undefine(self):
        self.service("DestroySystem", AffectedSystem=(
            "EPR", f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{self.uuid}'"))


def define(connection, name, processors, mebibytes, disks=(), ports=()):
    """`virsh define`: the parts of a description, each by the calls that the driver makes."""
    connection.invoke(SERVICE, "DefineSystem", SERVICE_SELECTOR, {
        "SystemSettings": ("CDATA", embedded(SETTINGS, ElementName=name))})
    domain = connection.by_name(name)
    domain.set_processors(processors)
    domain.set_memory(mebibytes, "Limit")
    domain.set_memory(mebibytes)
    scsi = max([index for _, bus, index, *_ in disks if bus == "scsi"], default=-1) + 1
    for _ in range(scsi):
        domain.add(GENERIC, ResourceType=6,
                   ResourceSubType="Microsoft:Hyper-V:Synthetic SCSI Controller")
    ide, scsi = domain.controllers()
    for kind, bus, index, slot, (file, ) in disks:
        controller = ide[str(index)] if bus == "ide" else scsi[index]
        if kind == "cdrom":
            domain.attach_disk(controller, slot, file, "Microsoft:Hyper-V:Synthetic DVD Drive",
                               "Microsoft:Hyper-V:Virtual CD/DVD Disk")
        else:
            domain.attach_disk(controller, slot, file)
    for port, (path, ) in ports:
        domain.attach_serial(int(port.split()[1]), path)
    return domain
