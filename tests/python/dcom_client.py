"""WMI over DCOM with clients that are used as they are published: impacket and aiowmi.

Ports. DCOM clients look for a host's objects on port 135, which tests must not need. aiowmi is told
another port (`Connection(port=...)`). impacket has no such parameter, but all its transports begin
with `TCPTransport(host, port=135)`: `at_port` gives that parameter another default, for as long as
the tests run, and changes nothing else. What comes after is told by the service, port and all.

Values. `values` gives an object's properties in the form in which all wires are compared (see
`same_values.py`).
"""

import asyncio
import contextlib
import logging
import re
import runpy
import subprocess
import sys
import sysconfig

import aiowmi.connection
import aiowmi.query
from aiowmi.exceptions import WbemFalse
from aiowmi.ndr.encoded_string import EncodedString
import impacket
import impacket.dcerpc.v5.rpcrt as rpcrt
from impacket.dcerpc.v5 import transport
from impacket.dcerpc.v5.dcom import wmi
from impacket.dcerpc.v5.dcomrt import DCOMConnection
from impacket.dcerpc.v5.dtypes import NULL

HOST = "127.0.0.1"
NAMESPACE = "//./root/virtualization"
WAIT_FOREVER = 0xFFFFFFFF

ACCESS_DENIED, NOT_FOUND, INVALID_CLASS, INVALID_QUERY, INVALID_OBJECT_PATH = (
    0x80041003, 0x80041002, 0x80041010, 0x80041017, 0x8004103A)

# Bits in a property's type beside the type itself.
ARRAY, INHERITED = 0x2000, 0x4000
WMI_TYPES = {
    2: "sint16", 3: "sint32", 4: "real32", 5: "real64", 8: "string", 11: "boolean", 13: "object",
    16: "sint8", 17: "uint8", 18: "uint16", 19: "uint32", 20: "sint64", 21: "uint64",
    101: "datetime", 102: "reference", 103: "char16"}


def wmi_type(number):
    return WMI_TYPES[number & ~(ARRAY | INHERITED)], bool(number & ARRAY)


def at_port(port):
    """Makes impacket begin at another port than 135."""
    transport.TCPTransport.__init__.__defaults__ = (port,)


class Failed(Exception):
    """A call was refused; `code` is the HRESULT."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def code_of(error):
    code = getattr(error, "error_code", None)
    return code & 0xFFFFFFFF if code is not None else None


@contextlib.contextmanager
def refusals_in_the_log(heard):
    """What impacket logs as errors meanwhile."""
    class Listener(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    listener = Listener(logging.ERROR)
    impacket.LOG.addHandler(listener)
    try:
        yield
    finally:
        impacket.LOG.removeHandler(listener)


class Impacket:
    """A login to a namespace by impacket. Only one at a time: impacket keeps its connections by
    host, not by who logged on."""

    def __init__(self, port, user, password, namespace=NAMESPACE, privacy=False):
        self.classes = {}
        at_port(port)
        self.connection = DCOMConnection(HOST, user, password, "", "", "", None, oxidResolver=True)
        try:
            login = wmi.IWbemLevel1Login(self.connection.CoCreateInstanceEx(
                wmi.CLSID_WbemLevel1Login, wmi.IID_IWbemLevel1Login))
            self.services = login.NTLMLogin(namespace, NULL, NULL)
            if privacy:
                # Takes effect with the next interface, for which impacket logs on anew.
                self.services.get_dce_rpc().set_auth_level(rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
            login.RemRelease()
        except Exception as error:
            self.close()
            if code_of(error) is None:
                raise
            raise Failed(code_of(error), str(error)) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(KeyError):
            self.connection.disconnect()

    @contextlib.contextmanager
    def refusals(self):
        try:
            yield
        except Exception as error:
            if code_of(error) is None:
                raise
            raise Failed(code_of(error), str(error)) from error

    def fetch(self, enumerator):
        """All objects, one at a time as impacket's own programs take them."""
        found = []
        while True:
            try:
                found.extend(enumerator.Next(WAIT_FOREVER, 1))
            except Exception as error:
                if "S_FALSE" not in str(error):
                    raise
                break
        enumerator.RemRelease()
        return found

    def query(self, text):
        with self.refusals():
            return self.fetch(self.services.ExecQuery(text))

    def one(self, text):
        found = self.query(text)
        assert len(found) == 1, (text, len(found))
        return found[0]

    def instances(self, class_name):
        with self.refusals():
            return self.fetch(self.services.CreateInstanceEnum(class_name))

    def get(self, path):
        with self.refusals():
            return self.services.GetObject(path)[0]

    def execute(self, path, method):
        """A method that takes nothing."""
        with self.refusals():
            return self.services.ExecMethod(path, method)

    def invoke(self, target, method, **arguments):
        """A method as impacket's users call it: as a function of the object, all arguments in the
        order of the method's declaration, which GetObject on the class tells.

        That function logs refusals and gives nothing; here they are raised.
        """
        class_name = target.getClassName()
        if class_name not in self.classes:
            self.classes[class_name] = self.get(class_name).getMethods()
        names = list(self.classes[class_name][method]["InParams"])
        assert set(names) == set(arguments), (names, arguments)
        # By itself it would name the object by the last of its keys only, which is not enough for
        # machines: their class has two.
        target.createMethods(path_of(target), self.classes[class_name])
        return self.refused(
            lambda: getattr(target, method)(*[arguments[name] for name in names]), method)

    @staticmethod
    def refused(call, what):
        """The answer of a method that impacket has made; what it only logs is raised."""
        logged = []
        with refusals_in_the_log(logged):
            answer = call()
        if answer is None:
            code = re.search(r"0x([0-9a-fA-F]{8})", logged[0]) if logged else None
            raise Failed(code and int(code[1], 16), f"{what}: {logged}")
        return answer


def raw(instance):
    """Property names and values as impacket has them."""
    return {name: each["value"] for name, each in instance.getProperties().items()}


def path_of(instance):
    """The path that WMI's own client library would make of an object: all keys, escaped."""
    keys = []
    for name, each in instance.getProperties().items():
        if "key" in each["qualifiers"]:
            value = str(each["value"]).replace("\\", "\\\\").replace('"', '\\"')
            keys.append(f'{name}="{value}"')
    return f"{instance.getClassName()}.{','.join(sorted(keys))}"


def wmiquery(port, credentials, commands, *options):
    """Runs impacket's `wmiquery.py` as it was installed, in a process of its own."""
    program = f"{sysconfig.get_path('scripts')}/wmiquery.py"
    return subprocess.run(
        [sys.executable, __file__, str(port), program, "-namespace", NAMESPACE, "-file",
         str(commands), *options, credentials],
        capture_output=True, text=True, timeout=300)


class Aiowmi:
    """Queries by aiowmi, each list of them through a login of its own. aiowmi can do nothing else."""

    def __init__(self, port, user, password, namespace="root/virtualization"):
        self.where = (HOST, user, password)
        self.port, self.namespace = port, namespace

    def query(self, text, smart=True):
        return self.queries([text], smart)[0]

    def queries(self, texts, smart=True, see=None):
        """What queries give, one after another on one connection: lists of what `see` makes of
        class name and properties. It sees them before the next object comes: aiowmi uses the same
        properties for all objects of a class."""
        return asyncio.run(self.answers(texts, smart, see or seen_by_aiowmi))

    async def log_on(self):
        connection = aiowmi.connection.Connection(*self.where, port=self.port)
        await connection.connect()
        return connection, await connection.negotiate_ntlm()

    async def answers(self, texts, smart, see):
        connection, service = await self.log_on()
        try:
            return [await self.ask(connection, service, text, smart, see) for text in texts]
        finally:
            connection.close()
            service.close()

    async def ask(self, connection, service, text, smart, see):
        query = aiowmi.query.Query(text, namespace=self.namespace)
        async with query.context(connection, service, skip_optimize=not smart) as context:
            # aiowmi's `is_optimized` is always False; its method for the next object tells.
            way = context.next.__name__
            assert way == ("_next_smart" if smart else "_next_slow"), way
            rows = []
            while True:
                try:
                    answer = await context.next()
                except WbemFalse:
                    return rows
                part = answer.get_class_part()
                name, _ = EncodedString.from_data(part.class_heap, part.class_name_ref)
                rows.append(see(name, answer.get_properties(load_qualifiers=True)))


def seen_by_aiowmi(class_name, properties):
    return class_name, {name: each.value for name, each in properties.items()}


if __name__ == "__main__":
    # PORT PROGRAM ARGUMENTS...: a program that uses impacket, beginning at another port.
    at_port(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
