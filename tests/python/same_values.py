"""The same objects and the same error causes over every wire.

A wire is a way to ask the service: `CimXml`, and whatever is compared with it. Each gives objects as
`Row`s, in one form:

- NULL is None, numbers are int or float, booleans bool, text str, arrays lists
- dates are their 25 characters, references what `parse_path` makes of their path
- embedded objects are not compared here

A client that cannot tell some values apart has a `lens`: what the right value looks like through it.
The wires are in `wires.py`. To add one, write a class with `all_rows(class_names)` and `lens`, and add
it to the walk in `test_same_values.py`.
"""

import re

import pywbem

CAUSES = {
    1: "failed", 2: "access denied", 3: "no such namespace", 4: "invalid parameter",
    5: "no such class", 6: "not found", 7: "not supported", 11: "already exists",
    12: "no such property", 13: "type mismatch", 14: "no such query language",
    15: "invalid query", 16: "method not available", 17: "no such method"}
WMI_CAUSES = {
    0x80041001: 1, 0x80041003: 2, 0x8004100E: 3, 0x80041008: 4, 0x80041010: 5, 0x80041002: 6,
    0x8004100C: 7, 0x80041019: 11, 0x80041031: 12, 0x80041005: 13, 0x80041018: 14,
    0x80041017: 15, 0x80041055: 16, 0x8004102E: 17,
    # Parameters of methods, and paths, have codes of their own.
    0x8004102F: 4, 0x8004103A: 4}

KEY = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\w+))')


class Row:
    """An object: its class, its values by property, its properties' types, its keys."""

    def __init__(self, class_name, values, types, keys, inherited=()):
        self.class_name, self.values, self.types = class_name, values, types
        self.inherited = inherited
        self.key = (class_name.lower(), tuple(sorted(
            (name.lower(), str(values[name]).lower()) for name in keys)))

    def __repr__(self):
        return f"{self.class_name} {dict(self.key[1])}"


def parse_path(text):
    """A path's class and keys; the host and the order of keys do not matter."""
    if text is None:
        return None
    relative = text if text[0] != "\\" else text.split(":", 1)[1]
    class_name, _, keys = relative.partition(".")
    found = [(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted or not number else number)
             for name, quoted, number in KEY.findall(keys)]
    return (class_name.lower(), tuple(sorted(found)))


def parse_uri(path):
    """The same of pywbem's path."""
    return (path.classname.lower(), tuple(sorted(
        (name.lower(), str(value)) for name, value in path.keybindings.items())))


def path_text(class_name, keys):
    """A relative path as WMI writes it."""
    keys = dict(keys)

    def quoted(value):
        return '"{}"'.format(str(value).replace("\\", "\\\\").replace('"', '\\"'))
    return class_name + "." + ",".join(
        f"{name}={quoted(value)}" for name, value in sorted(keys.items()))


class CimXml:
    """pywbem: the wire that the others are measured against."""

    def __init__(self, connection, namespace="root/virtualization"):
        connection.default_namespace = namespace
        self.connection, self.namespace = connection, namespace
        self.classes = {}

    def declared(self, class_name):
        if not self.classes:
            self.classes = {each.classname: each for each in self.connection.EnumerateClasses(
                DeepInheritance=True, LocalOnly=False, IncludeQualifiers=True)}
        return self.classes[class_name]

    def names(self):
        return sorted(self.connection.EnumerateClassNames(DeepInheritance=True))

    def keys(self, class_name):
        return [each.name for each in self.declared(class_name).properties.values()
                if "key" in each.qualifiers]

    def has_references_for_keys(self, class_name):
        declared = self.declared(class_name).properties
        return any(declared[key].type == "reference" for key in self.keys(class_name))

    @staticmethod
    def kind(each):
        """A property's type, and whether it is an array."""
        return "object" if each.embedded_object else each.type, each.is_array

    def path_keys(self, row):
        """The keys as WMI writes them: references are the paths of what they name."""
        names = {key.lower(): key for key in self.keys(row.class_name)}
        return {name: path_text(*row.values[name]) if row.types[name][0] == "reference"
                else row.values[name] for name in names.values()}

    def get(self, row):
        return self.row(self.connection.GetInstance(row.uri))

    def row(self, instance):
        types = {each.name: self.kind(each) for each in instance.properties.values()}
        row = Row(instance.classname,
                  {each.name: self.plain(each.value) for each in instance.properties.values()},
                  types, self.keys(instance.classname))
        row.uri = instance.path
        return row

    def plain(self, value):
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        if isinstance(value, pywbem.CIMInstanceName):
            return parse_uri(value)
        if isinstance(value, pywbem.CIMDateTime):
            return str(value)
        if isinstance(value, pywbem.CIMFloat):
            return float(value)
        if isinstance(value, pywbem.CIMInt):
            return int(value)
        return value

    def rows(self, class_name):
        return [self.row(each) for each in self.connection.ExecQuery(
            "WQL", f"SELECT * FROM {class_name}")]

    @staticmethod
    def cause(error):
        return CAUSES.get(error.status_code, error.status_code)


def wmi_cause(code):
    return CAUSES.get(WMI_CAUSES.get(code), hex(code))


def differences(wire, expected, found, changing):
    """What is not the same, in words. `changing` are the (object, property) that move by
    themselves."""
    wrong = []
    if len(expected) != len(found):
        wrong.append(f"{wire}: {len(found)} objects, not {len(expected)}")
    expected = {row.key: row for row in expected}
    found = {row.key: row for row in found}
    for key in expected.keys() ^ found.keys():
        place = "not over" if key in expected else "only over"
        wrong.append(f"{place} {wire}: {key}")
    for key in expected.keys() & found.keys():
        row, other = expected[key], found[key]
        if row.values.keys() != other.values.keys():
            wrong.append(f"{wire}: {row} has other properties: "
                         f"{sorted(row.values.keys() ^ other.values.keys())}")
            continue
        for name, value in row.values.items():
            kind = row.types[name]
            if kind[0] == "object" or (key, name) in changing:
                continue
            right = wire.lens(row, name, value, other)
            if right != other.values[name]:
                wrong.append(f"{wire}: {row}.{name} is {other.values[name]!r}, not {right!r}")
    return wrong


def moved(before, after):
    """The (object, property) whose values were not the same twice."""
    before = {row.key: row.values for row in before}
    return {(row.key, name) for row in after for name, value in row.values.items()
            if row.key in before and before[row.key].get(name) != value}
