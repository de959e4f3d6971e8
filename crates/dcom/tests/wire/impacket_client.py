"""Uses a counter by DCOM with impacket, and prints what it saw.

Arguments: address, level (default or privacy), CLSID, IID of the counter, IID of the name.
"""

import sys

from impacket.dcerpc.v5.dcomrt import (
    DCOMANSWER,
    DCOMCALL,
    DCOMConnection,
)
from impacket.dcerpc.v5.dtypes import LONG, LPWSTR
from impacket.dcerpc.v5.rpcrt import RPC_C_AUTHN_LEVEL_PKT_PRIVACY
from impacket.uuid import string_to_bin, uuidtup_to_bin

ADDRESS, LEVEL, CLSID, ICOUNTER, INAME = sys.argv[1:]


class Add(DCOMCALL):
    opnum = 3
    structure = (("more", LONG),)


class AddResponse(DCOMANSWER):
    structure = (("value", LONG), ("ErrorCode", LONG))


class Name(DCOMCALL):
    opnum = 3
    structure = ()


class NameResponse(DCOMANSWER):
    structure = (("name", LPWSTR), ("ErrorCode", LONG))


def interface_id(text):
    return uuidtup_to_bin((text, "0.0"))


def call(interface, request, iid):
    return interface.request(request, iid=iid, uuid=interface.get_iPid())


def use_a_counter():
    connection = DCOMConnection(ADDRESS, "alice", "secret", "", "", "", None, oxidResolver=True)
    try:
        counter = connection.CoCreateInstanceEx(string_to_bin(CLSID), interface_id(ICOUNTER))
        seen = []
        for more in (5, 7):
            request = Add()
            request["more"] = more
            seen.append(str(call(counter, request, interface_id(ICOUNTER))["value"]))
        # Takes effect at the next interface, for which impacket logs on again.
        if LEVEL == "privacy":
            counter.get_dce_rpc().set_auth_level(RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
        name = counter.RemQueryInterface(1, (interface_id(INAME),))
        answer = call(name, Name(), interface_id(INAME))
        seen.append(answer["name"][:-1])
        name.RemRelease()
        counter.RemRelease()
        counter.RemRelease()
        return seen
    finally:
        connection.disconnect()


def fail_to_log_on():
    try:
        connection = DCOMConnection(ADDRESS, "alice", "wrong", "", "", "", None)
        connection.CoCreateInstanceEx(string_to_bin(CLSID), interface_id(ICOUNTER))
    except Exception as error:
        return "rpc_s_access_denied" if "rpc_s_access_denied" in str(error) else str(error)
    return "was let in"


print(*use_a_counter(), "wrong password:", fail_to_log_on())
