"""WS-Management as pypsrp speaks it: Basic over HTTP and HTTPS, NTLM and Negotiate with encrypted
messages; enumerations, queries, references and method calls on real machines."""

import base64
import http.client
import pathlib
import shutil
import socket
import tempfile
import xml.etree.ElementTree as ET

import pytest
from conftest import PASSWORD, Service, required
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.wsman import OptionSet, SelectorSet, WSMan

ENUMERATION = "{http://schemas.xmlsoap.org/ws/2004/09/enumeration}"
ADDRESSING = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"
MANAGEMENT = "{http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd}"
BINDING = "{http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd}"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/"
CLASSES = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
ASSOCIATION = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"


class Client:
    def __init__(self, service, auth="basic", user="admin", password=PASSWORD, encryption="auto",
                 tls=False, **options):
        host, port = service.endpoints["wsman_tls" if tls else "wsman"].rsplit(":", 1)
        self.wsman = WSMan(
            host, port=int(port), ssl=tls, auth=auth, username=user, password=password,
            encryption="never" if auth == "basic" and not tls else encryption,
            cert_validation=str(service.data_dir / "tls" / "certificate.pem") if tls else True,
            **options)

    def items(self, resource, *content, pull=()):
        """Everything that an enumeration gives, and how many pulls it took."""
        request = ET.Element(ENUMERATION + "Enumerate")
        request.extend(content)
        answer = self.wsman.enumerate(WMI + resource, request)
        found, pulls = [], 0
        context = answer.find(f".//{ENUMERATION}EnumerationContext").text
        while context:
            request = ET.Element(ENUMERATION + "Pull")
            ET.SubElement(request, ENUMERATION + "EnumerationContext").text = context
            request.extend(pull)
            answer = self.wsman.pull(WMI + resource, request)
            found.extend(answer.find(f".//{ENUMERATION}Items"))
            pulls += 1
            context = answer.findtext(f".//{ENUMERATION}EnumerationContext")
        return found, pulls

    def query(self, text):
        wanted = ET.Element(MANAGEMENT + "Filter", Dialect=WQL)
        wanted.text = text
        return self.items("*", wanted)[0]

    def call(self, resource, method, selectors, **parameters):
        uri = WMI + resource
        body = ET.Element(f"{{{uri}}}{method}_INPUT")
        for name, value in parameters.items():
            parameter = ET.SubElement(body, f"{{{uri}}}{name}")
            if isinstance(value, str):
                parameter.text = value
            else:
                parameter.extend(value)
        names = SelectorSet()
        for name, value in selectors.items():
            names.add_option(name, value)
        answer = self.wsman.invoke(f"{uri}/{method}", uri, body, selector_set=names)
        return answer.find(f".//{{{uri}}}{method}_OUTPUT")


def local(element):
    return element.tag.rsplit("}", 1)[1]


def text(instance, name):
    return next(child.text for child in instance if local(child) == name)


@pytest.fixture(scope="module")
def ntlm(service):
    secret = service.data_dir.parent / "password"
    secret.write_text(PASSWORD + "\n")
    service.run("account", "add", "windows", "--role", "administrator", "--ntlm",
                "--password-file", str(secret))
    return "windows"


@pytest.fixture(params=["basic", "basic over TLS", "ntlm", "negotiate", "ntlm over TLS"])
def client(request, service, ntlm):
    auth, _, tls = request.param.partition(" over ")
    user = "admin" if auth == "basic" else ntlm
    encryption = "auto" if tls or auth == "basic" else "always"
    return Client(service, auth=auth, user=user, encryption=encryption, tls=bool(tls))


def test_every_way_to_log_on_shows_the_same(client, service, guest):
    found = client.query(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{guest.name}' ")
    assert len(found) == 1
    machine = found[0]
    same = service.connect().EnumerateInstances("Msvm_ComputerSystem")
    same = next(it for it in same if it["ElementName"] == guest.name)
    assert text(machine, "Name") == same["Name"]
    # Every property is there, null ones too.
    names = {local(child) for child in machine}
    assert names >= set(same.keys()) - {name for name in same if isinstance(same[name], list)}
    null = next(child for child in machine if local(child) == "InstallDate")
    assert (null.get(NIL) == "true") == (same["InstallDate"] is None)


def test_wrong_passwords_are_refused(service, ntlm):
    for auth, user in (("basic", "admin"), ("ntlm", ntlm)):
        with pytest.raises(AuthenticationError):
            Client(service, auth=auth, user=user, password="wrong").query(
                "SELECT * FROM Msvm_ComputerSystem")


def test_one_item_a_pull_unless_more_are_asked_for(service, guest):
    client = Client(service)
    alone, pulls = client.items("Msvm_ResourceAllocationSettingData")
    assert pulls == len(alone) > 3
    more = ET.Element(ENUMERATION + "MaxElements")
    more.text = "1000"
    together, pulls = client.items("Msvm_ResourceAllocationSettingData", pull=[more])
    # As many as the envelope has room for.
    assert pulls <= 1 + len(alone) // 40 and len(together) == len(alone)
    # Objects of the class that was asked for come first, those of its subclasses after them.
    classes = [local(item) for item in together]
    exact = classes.count("Msvm_ResourceAllocationSettingData")
    assert set(classes[:exact]) == {"Msvm_ResourceAllocationSettingData"}


def test_associations_by_query_and_by_filter_agree(service, guest):
    client = Client(service)
    machine = client.query(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName='{guest.name}'")[0]
    name = text(machine, "Name")
    asked = client.query(
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='"
        f"{name.lower()}'}} WHERE AssocClass = Msvm_SettingsDefineState "
        "ResultClass = Msvm_VirtualSystemSettingData ")
    assert len(asked) == 1
    wanted = ET.Element(MANAGEMENT + "Filter", Dialect=ASSOCIATION)
    kind = ET.SubElement(wanted, BINDING + "AssociatedInstances")
    source = ET.SubElement(kind, BINDING + "Object")
    ET.SubElement(source, ADDRESSING + "Address").text = "unused"
    parameters = ET.SubElement(source, ADDRESSING + "ReferenceParameters")
    resource = ET.SubElement(parameters, MANAGEMENT + "ResourceURI")
    resource.text = WMI + "Msvm_ComputerSystem"
    names = ET.SubElement(parameters, MANAGEMENT + "SelectorSet")
    for key, value in (("Name", name), ("CreationClassName", "Msvm_ComputerSystem")):
        ET.SubElement(names, MANAGEMENT + "Selector", Name=key).text = value
    for key, value in (("AssociationClassName", "Msvm_SettingsDefineState"),
                       ("ResultClassName", "Msvm_VirtualSystemSettingData")):
        ET.SubElement(kind, BINDING + key).text = value
    found, _ = client.items("*", wanted)
    assert [text(it, "InstanceID") for it in found] == [text(it, "InstanceID") for it in asked]


def test_a_machine_is_made_and_removed_by_calls(service, ntlm):
    client = Client(service, auth="ntlm", user=ntlm, encryption="always")
    service_class = "Msvm_VirtualSystemManagementService"
    settings = (
        '<INSTANCE CLASSNAME="Msvm_VirtualSystemGlobalSettingData"><PROPERTY NAME="ElementName" '
        'TYPE="string"><VALUE>by wsman &amp; co</VALUE></PROPERTY></INSTANCE>')
    # As some clients do: a part of the keys is enough to name the service.
    made = client.call(service_class, "DefineVirtualSystem", {"CreationClassName": service_class},
                       SystemSettingData=settings)
    assert text(made, "ReturnValue") in ("0", "4096")
    machine = client.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName='by wsman & co'")
    assert len(machine) == 1
    reference = next(child for child in made if local(child) == "DefinedSystem")
    selectors = {it.get("Name"): it.text for it in reference.iter(MANAGEMENT + "Selector")}
    assert selectors["Name"] == text(machine[0], "Name")
    # A reference goes back as it came.
    gone = client.call(service_class, "DestroyVirtualSystem", {"CreationClassName": service_class},
                       ComputerSystem=list(reference))
    assert text(gone, "ReturnValue") in ("0", "4096")


def test_faults_name_their_cause(service, guest):
    client = Client(service)
    with pytest.raises(WSManFaultError) as caught:
        client.query("SELECT * FROM Msvm_Nothing")
    assert caught.value.code == 2150858778
    with pytest.raises(WSManFaultError) as caught:
        names = SelectorSet()
        names.add_option("Name", "nobody")
        names.add_option("CreationClassName", "Msvm_ComputerSystem")
        client.wsman.get(WMI + "Msvm_ComputerSystem", selector_set=names)
    assert caught.value.code == 2150858752
    assert "nobody" in str(caught.value)
    client.wsman.update_max_payload_size()
    assert client.wsman.max_payload_size > 100_000


def test_classes_are_told_as_cim_xml(service):
    client = Client(service)

    def get(name, **options):
        names, chosen = SelectorSet(), OptionSet()
        names.add_option("__cimnamespace", "root/virtualization/v2")
        names.add_option("ClassName", name)
        for option, value in options.items():
            chosen.add_option(option, value)
        return client.wsman.get(CLASSES + "*", selector_set=names, option_set=chosen).find(
            ".//CLASS")

    told = get("Msvm_ConcreteJob", IncludeInheritanceHierarchy="true", IncludeQualifiers="true",
               IncludeInheritedElements="true")
    assert told.get("NAME") == "Msvm_ConcreteJob"
    above = told.get("DERIVATION").split(",")
    assert above[0] == told.get("SUPERCLASS") == "CIM_ConcreteJob"
    assert above[-1] == "CIM_ManagedElement"
    key = next(it for it in told if it.get("NAME") == "InstanceID")
    assert any(it.get("NAME").lower() == "key" for it in key.findall("QUALIFIER"))
    methods = {it.get("NAME") for it in told.findall("METHOD")}
    assert {"RequestStateChange", "GetError"} <= methods
    assert get("Msvm_ConcreteJob").get("DERIVATION") is None
    with pytest.raises(WSManFaultError) as caught:
        get("Msvm_Nothing")
    assert caught.value.code == 2150858752


def test_every_class_is_listed(service):
    """As Get-CimClass without a name or with a pattern does."""
    client = Client(service)
    for namespace in ("root/virtualization", "root/virtualization/v2"):
        selectors, options = SelectorSet(), OptionSet()
        selectors.add_option("__cimnamespace", namespace)
        selectors.add_option("ClassName", "")
        for name in ("IncludeInheritanceHierarchy", "IncludeInheritedElements",
                     "IncludeQualifiers"):
            options.add_option(name, "true")
        request = ET.Element(ENUMERATION + "Enumerate")
        ET.SubElement(request, MANAGEMENT + "OptimizeEnumeration")
        ET.SubElement(request, MANAGEMENT + "MaxElements").text = "32000"
        answer = client.wsman.enumerate(CLASSES + "*", request, option_set=options,
                                        selector_set=selectors)
        found = answer.findall(".//CLASS")
        context = answer.findtext(f".//{ENUMERATION}EnumerationContext")
        while context:
            request = ET.Element(ENUMERATION + "Pull")
            ET.SubElement(request, ENUMERATION + "EnumerationContext").text = context
            ET.SubElement(request, ENUMERATION + "MaxElements").text = "32000"
            answer = client.wsman.pull(CLASSES + "*", request)
            found.extend(answer.findall(".//CLASS"))
            context = answer.findtext(f".//{ENUMERATION}EnumerationContext")
        names = [it.get("NAME") for it in found]
        same = service.connect().EnumerateClassNames(namespace=namespace, DeepInheritance=True)
        assert len(names) > 100 and sorted(names) == sorted(same)
        job = found[names.index("Msvm_ConcreteJob")]
        assert job.get("DERIVATION").startswith("CIM_ConcreteJob,")
        assert {"RequestStateChange", "GetError"} <= {it.get("NAME") for it in job.iter("METHOD")}


def test_bytes_are_taken_as_numbers_and_as_base64(service, guest):
    client = Client(service)
    machine, = client.query(
        f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName='{guest.name}'")
    selectors = {"SystemName": text(machine, "Name")}

    def type_codes(*values):
        resource = WMI + "Msvm_Keyboard"
        body = ET.Element(f"{{{resource}}}TypeScancodes_INPUT")
        for value in values:
            ET.SubElement(body, f"{{{resource}}}Scancodes").text = value
        names = SelectorSet()
        for name, value in selectors.items():
            names.add_option(name, value)
        answer = client.wsman.invoke(f"{resource}/TypeScancodes", resource, body,
                                     selector_set=names)
        return int(text(answer.find(f".//{{{resource}}}TypeScancodes_OUTPUT"), "ReturnValue"))

    # Shift down and up; half of a code.
    assert type_codes("42", "170") == type_codes("Kqo=") == 0
    assert type_codes("224") == type_codes("4A==") == 32773
    with pytest.raises(WSManFaultError) as caught:
        type_codes("Kqo")
    assert "Scancodes" in str(caught.value)


def test_basic_is_not_heard_from_elsewhere_in_the_clear():
    """Neither offered nor looked at: right credentials and wrong ones fare alike."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but its own")
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this host has no address but its own")
    # pytest's folders have names too long for sockets.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rootvirt-test-"))
    service = Service(required("ROOTVIRT_TEST_PROGRAM"), folder / "data")
    service.account("admin", "administrator")
    service.endpoints["wsman"] = f"{own}:0"
    try:
        host, port = service.start().endpoints["wsman"].rsplit(":", 1)
        answers = set()
        for password in (PASSWORD, "wrong"):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            given = base64.b64encode(f"admin:{password}".encode()).decode()
            connection.request("POST", "/wsman", b"", {"Authorization": f"Basic {given}"})
            answer = connection.getresponse()
            offered = answer.headers.get_all("WWW-Authenticate")
            answers.add((answer.status, tuple(offered), answer.read()))
            connection.close()
        (status, offered, _), = answers
        assert (status, offered) == (401, ("Negotiate",))
        # Those of a logon that was tried and failed would be in it.
        assert "admin" not in service.tail()
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)
