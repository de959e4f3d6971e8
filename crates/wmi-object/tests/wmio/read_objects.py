"""Reads WMI objects with impacket's and aiowmi's parsers, and shows what they saw.

Standard input: one JSON object a line, with the bytes of a class, of an instance of it, and of
two enumeration packets (hexadecimal digits). Standard output: one JSON object a line with what
each parser made of them, and the in-parameters that impacket wrote for a method of the class.
"""

import contextlib
import datetime
import io
import json
import sys

from impacket.dcerpc.v5.dcom import wmi
from impacket.dcerpc.v5.dcomrt import INTERFACE
from aiowmi.ndr.encoding_unit import EncodingUnit
from aiowmi.ndr.next_response import NextResponse
from aiowmi.ndr.smart_response import SmartResponse


def shown(value):
    """Values as JSON has them; datetimes as microseconds."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, datetime.timedelta):
        return {"interval": value // datetime.timedelta(microseconds=1)}
    if isinstance(value, datetime.datetime):
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return {"time": (value - epoch) // datetime.timedelta(microseconds=1)}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def impacket_members(properties):
    return [{"name": name, "type": entry["type"], "order": entry["order"],
             "value": shown(entry["value"]),
             "qualifiers": {key: shown(value) for key, value in entry["qualifiers"].items()}}
            for name, entry in properties.items()]


def impacket_object(unit):
    block = wmi.ENCODING_UNIT(unit)["ObjectBlock"]
    block.parseObject()
    parsed = block.ctCurrent
    answer = {"name": parsed["name"], "properties": impacket_members(parsed["properties"]),
              "qualifiers": {key: shown(value) for key, value in parsed["qualifiers"].items()}}
    if not block.isInstance():
        answer["methods"] = [
            {"name": name, "origin": method["origin"],
             "in": [it["name"] for it in impacket_members(method["InParams"] or {})],
             "out": [it["name"] for it in impacket_members(method["OutParams"] or {})]}
            for name, method in parsed["methods"].items()]
    return answer


class Services:
    """Stands where the connection would: keeps what a call would send."""

    def __init__(self):
        self.sent = None

    def ExecMethod(self, path, method, pInParams):
        self.sent = pInParams.getData()


def impacket_call(objref, arguments):
    """The in-parameters of `Call` as impacket writes them."""
    services = Services()
    interface = INTERFACE(None, objref, b"", oxid=0, target="nowhere")
    wrapper = wmi.IWbemClassObject(interface, services)
    wrapper.Call(*arguments)
    return services.sent.hex()


class Plain(NextResponse):
    def __init__(self, unit):
        self._obj_block = EncodingUnit(unit).object_block

    def _get_object_block(self):
        return self._obj_block


def aiowmi_members(response):
    # Not the class's name: for a derived class `get_name` never ends.
    properties = response.get_properties(load_qualifiers=True)
    return {"properties": [{"name": name, "type": entry.type, "order": entry.order,
                            "value": shown(entry.value),
                            "qualifiers": {key: shown(value) for key, value
                                           in entry.qualifier_set.qualifiers.items()}}
                           for name, entry in properties.items()]}


def smart(packet, class_parts):
    """The answer of `IWbemWCOSmartEnum::Next` up to the packet."""
    size = len(packet).to_bytes(4, "little")
    head = bytes(8) + (1).to_bytes(4, "little") + size + b"\0\0\2\0" + size
    return aiowmi_members(SmartResponse(head + packet, class_parts))


def main():
    for line in sys.stdin:
        case = json.loads(line)
        data = {key: bytes.fromhex(value) for key, value in case.items() if key != "arguments"}
        if "call" in case:
            with contextlib.redirect_stdout(io.StringIO()):
                answer = {"sent": impacket_call(data["call"], case["arguments"])}
        else:
            class_parts = {}
            answer = {
                "impacket_class": impacket_object(data["class"]),
                "impacket_instance": impacket_object(data["instance"]),
                "aiowmi": aiowmi_members(Plain(data["instance"])),
                "aiowmi_full": smart(data["full"], class_parts),
                "aiowmi_classless": smart(data["classless"], class_parts),
            }
        print(json.dumps(answer))


main()
