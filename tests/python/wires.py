"""The wires that are compared with CIM-XML: DCOM by aiowmi and impacket, WS-Management by pypsrp.

Each shows objects as `same_values.Row`s, through the `lens` of what its client cannot tell apart.
"""

import datetime
import re
import xml.etree.ElementTree as ET

import pywbem
from pypsrp.exceptions import WSManFaultError
from pypsrp.wsman import SelectorSet, WSMan

from conftest import PASSWORD
from dcom_client import ARRAY, INHERITED, NULL, Aiowmi, wmi_type
from same_values import CAUSES, Row, parse_path

ENUMERATION = "{http://schemas.xmlsoap.org/ws/2004/09/enumeration}"
ADDRESSING = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"
MANAGEMENT = "{http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd}"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
DURATION = re.compile(r"P(\d+)DT(\d+)H(\d+)M([\d.]+)S")


class AiowmiWire:
    """aiowmi shows the type's zero for NULL, takes 0xFFFFFFFF for NULL, inherited arrays of text for
    numbers, and has dates as Python's."""

    def __init__(self, service, namespace, smart):
        self.client = Aiowmi(service.dcom_port(), "admin", PASSWORD, namespace)
        self.smart = smart

    def __str__(self):
        return "aiowmi, smart" if self.smart else "aiowmi, plain"

    def all_rows(self, class_names):
        return self.client.queries(
            [f"SELECT * FROM {name}" for name in class_names], self.smart, self.row)

    def row(self, class_name, properties):
        types = {name: wmi_type(each.type) for name, each in properties.items()}
        values = {}
        for name, each in properties.items():
            value = each.value
            if types[name][0] == "reference" and value:
                value = parse_path(value)
            elif each.type == ARRAY | INHERITED | 8:
                value = len(value)
            values[name] = value
        keys = [name for name, each in properties.items() if "key" in each.qualifier_set.qualifiers]
        return Row(class_name, values, types, keys, inherited={
            name for name, each in properties.items() if each.type & INHERITED})

    def lens(self, row, name, value, other):
        kind, is_array = row.types[name]
        if is_array:
            if kind == "string" and name in other.inherited:
                return len(value or [])
            return [] if value is None else value
        if value is None or value == 0xFFFFFFFF:
            return {"boolean": False, "string": "", "datetime": "", "reference": ""}.get(kind, 0)
        return python_time(value) if kind == "datetime" else value


def python_time(text):
    when = pywbem.CIMDateTime(text)
    return when.timedelta if when.is_interval else when.datetime


class ImpacketWire:
    """impacket shows text for booleans; where a number is NULL it shows the class's filler, but
    says that it is NULL."""

    def __init__(self, session):
        self.session = session

    def __str__(self):
        return "impacket"

    def get(self, path):
        return self.row(self.session.get(path))

    def row(self, instance):
        properties = instance.getProperties()
        types = {name: wmi_type(each["type"]) for name, each in properties.items()}
        values = {}
        for name, each in properties.items():
            kind, is_array = types[name]
            value = None if each["null_default"] else each["value"]
            if value is not None and not is_array:
                value = {"boolean": {"True": True, "False": False}.get,
                         "datetime": lambda text: str(pywbem.CIMDateTime(text)),
                         "reference": parse_path}.get(kind, lambda value: value)(value)
            values[name] = value
        keys = [name for name, each in properties.items() if "key" in each["qualifiers"]]
        return Row(instance.getClassName(), values, types, keys)

    def lens(self, row, name, value, other):
        return value

    def call(self, path, method, like=None):
        """A method with the parameters that `like` declares (none without it), all NULL or empty."""
        if like is None:
            return self.session.execute(path, method)
        target = self.session.get(path)
        declared = self.session.get(target.getClassName()).getMethods()[like]
        target.createMethods(path, {method: {**declared, "name": method}})
        return self.session.refused(
            lambda: getattr(target, method)(*["" for _ in declared["InParams"]]), method)

    def delete(self, path):
        with self.session.refusals():
            self.session.services.DeleteInstance(path, 0, NULL)


# What WS-Management says in its own numbers before the object manager is asked.
OWN_CAUSES = {
    2150858752: "no such class", 2150858837: "invalid parameter",
    # Selectors: insufficient, unexpected, of the wrong type.
    2150858842: "invalid parameter", 2150858843: "not found", 2150858844: "not found"}


class Refused(Exception):
    """A SOAP fault; `cause` is what it says about the object manager's error."""

    def __init__(self, cause, text):
        super().__init__(text)
        self.cause = cause


class PypsrpWire:
    """WS-Management has no types: the class tells them, by CIM-XML. Dates are XML's, arrays that
    are NULL or empty look the same."""

    def __init__(self, service, world):
        host, port = service.endpoints["wsman"].rsplit(":", 1)
        self.wsman = WSMan(host, port=int(port), ssl=False, auth="basic", username="admin",
                           password=PASSWORD, encryption="never")
        self.world = world
        self.base = f"{WMI}{world.namespace}/"

    def __str__(self):
        return "pypsrp"

    def ask(self, call, *arguments, **options):
        try:
            return call(*arguments, **options)
        except WSManFaultError as error:
            text = getattr(error.__context__, "response_text", "")
            code = re.search(r"CIMStatusCode>(\d+)<", text)
            cause = CAUSES.get(int(code[1])) if code else OWN_CAUSES.get(error.code, error.code)
            raise Refused(cause, str(error)) from error

    def query(self, text):
        request = ET.Element(ENUMERATION + "Enumerate")
        ET.SubElement(request, MANAGEMENT + "OptimizeEnumeration")
        ET.SubElement(request, MANAGEMENT + "MaxElements").text = "1000"
        ET.SubElement(request, MANAGEMENT + "Filter", Dialect=WQL).text = text
        answer = self.ask(self.wsman.enumerate, self.base + "*", request)
        found = list(answer.find(f".//{MANAGEMENT}Items"))
        while answer.find(f".//{MANAGEMENT}EndOfSequence") is None and answer.find(
                f".//{ENUMERATION}EndOfSequence") is None:
            context = answer.findtext(f".//{ENUMERATION}EnumerationContext")
            request = ET.Element(ENUMERATION + "Pull")
            ET.SubElement(request, ENUMERATION + "EnumerationContext").text = context
            ET.SubElement(request, ENUMERATION + "MaxElements").text = "1000"
            answer = self.ask(self.wsman.pull, self.base + "*", request)
            found.extend(answer.find(f".//{ENUMERATION}Items"))
        return found

    def all_rows(self, class_names):
        return [[self.row(each) for each in self.query(f"SELECT * FROM {name}")]
                for name in class_names]

    def get(self, class_name, keys):
        body = self.ask(self.wsman.get, self.base + class_name, selector_set=selectors(keys))
        return self.row(body[0])

    def call(self, class_name, keys, method, parameters=()):
        uri = self.base + class_name
        body = ET.Element(f"{{{uri}}}{method}_INPUT")
        for name in parameters:
            ET.SubElement(body, f"{{{uri}}}{name}")
        return self.ask(self.wsman.invoke, f"{uri}/{method}", uri, body,
                        selector_set=selectors(keys))

    def delete(self, class_name, keys):
        return self.ask(self.wsman.delete, self.base + class_name, selector_set=selectors(keys))

    def row(self, element):
        class_name = local(element)
        declared = self.world.declared(class_name)
        given = {}
        for child in element:
            given.setdefault(local(child), []).append(child)
        types = {name: self.world.kind(each) for name, each in declared.properties.items()}
        values = {}
        for name, elements in given.items():
            kind, is_array = types[name]
            found = [self.value(kind, each) for each in elements]
            values[name] = found if is_array and found != [None] else found[0]
        for name, (_, is_array) in types.items():
            if is_array and values.get(name) is None:
                values[name] = []
        return Row(class_name, values, types, self.world.keys(class_name))

    def value(self, kind, element):
        if element.get(NIL) == "true":
            return None
        if kind == "reference":
            uri = element.findtext(f".//{MANAGEMENT}ResourceURI")
            keys = [(it.get("Name").lower(), it.text or "")
                    for it in element.iter(MANAGEMENT + "Selector")]
            return (uri.rsplit("/", 1)[1].lower(), tuple(sorted(
                key for key in keys if key[0] != "__cimnamespace")))
        if kind == "datetime":
            return xml_time(element[0].text)
        text = element.text or ""
        if kind == "boolean":
            return {"true": True, "false": False}[text]
        if kind in ("string", "char16"):
            return text
        return float(text) if kind.startswith("real") else int(text)

    def lens(self, row, name, value, other):
        kind, is_array = row.types[name]
        if is_array:
            value = value or []
            return [python_time(each) for each in value] if kind == "datetime" else value
        return python_time(value) if kind == "datetime" and value is not None else value


def xml_time(text):
    duration = DURATION.fullmatch(text)
    if duration is None:
        return datetime.datetime.fromisoformat(text)
    days, hours, minutes, seconds = duration.groups()
    return datetime.timedelta(
        days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def selectors(keys):
    chosen = SelectorSet()
    for name, value in keys.items():
        chosen.add_option(name, str(value))
    return chosen


def local(element):
    return element.tag.rsplit("}", 1)[1]
