"""impacket's `wmiquery.py`, as it is installed, on classes of the namespace at each level."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PASSWORD
from dcom_client import wmiquery

LEVELS = {"default": [], "integrity": ["-rpc-auth-level", "integrity"],
          "privacy": ["-rpc-auth-level", "privacy"]}


def credentials(user, password=PASSWORD):
    return f"{user}:{password}@127.0.0.1"


def named_at(level, names):
    """Some classes; all with ROOTVIRT_TEST_ALL_CLASSES, which takes minutes."""
    if os.environ.get("ROOTVIRT_TEST_ALL_CLASSES"):
        return names
    return [name for name in names if name.startswith("Msvm_VirtualSystem")]


@pytest.fixture(scope="module")
def told(service, connection, tmp_path_factory):
    """What the program says at each level, beside each other: it is slow, and waits a lot."""
    names = sorted(connection.EnumerateClassNames(DeepInheritance=True))
    folder = tmp_path_factory.mktemp("wmiquery")

    def run(level):
        file = folder / level
        # Objects once, with their own class: otherwise most come four times, with each of their
        # bases.
        file.write_text("".join(
            f"describe {name}\nSELECT * FROM {name} WHERE __CLASS = '{name}'\n"
            for name in named_at(level, names)))
        return wmiquery(service.dcom_port(), credentials("admin"), file, *LEVELS[level])

    with ThreadPoolExecutor() as pool:
        return names, dict(zip(LEVELS, pool.map(run, LEVELS)))


@pytest.mark.parametrize("level", LEVELS)
def test_classes_are_described_and_queried(told, connection, level):
    names, answers = told
    answer = answers[level]
    assert answer.returncode == 0, answer.stderr
    assert "[-]" not in answer.stdout + answer.stderr, (answer.stdout + answer.stderr)[-3000:]
    described = re.findall(r"^class (\w+)", answer.stdout, re.M)
    assert set(named_at(level, names)) <= set(described)
    # Objects come as tables: a head of property names, then a row each.
    assert " ElementName |" in answer.stdout
    assert "Virtual System Management Service" in answer.stdout


def test_a_description_is_the_class(told, connection):
    _, answers = told
    text = answers["default"].stdout
    declared = connection.GetClass("Msvm_VirtualSystemManagementService", LocalOnly=False)
    part = re.search(r"^class Msvm_VirtualSystemManagementService\b.*?^}", text, re.M | re.S)[0]
    for each in declared.properties.values():
        assert re.search(rf"\b{each.name}\b", part), each.name
    for each in declared.methods.values():
        head = re.search(rf"\b{each.name}\((.*?)\);", part, re.S)
        assert head, each.name
        for parameter in each.parameters.values():
            assert re.search(rf"\b{parameter}\b" if isinstance(parameter, str)
                             else rf"\b{parameter.name}\b", head[1]), (each.name, parameter)


@pytest.mark.parametrize("user, password", [("admin", "wrong"), ("nobody", PASSWORD)])
def test_who_may_not_log_on_is_told_so(service, tmp_path, user, password):
    file = tmp_path / "commands"
    file.write_text("SELECT * FROM Msvm_ComputerSystem\n")
    answer = wmiquery(service.dcom_port(), credentials(user, password), file)
    assert "rpc_s_access_denied" in answer.stdout + answer.stderr
    assert "|" not in answer.stdout


def test_an_account_without_ntlm_cannot_log_on(service, tmp_path):
    file = tmp_path / "commands"
    file.write_text("SELECT * FROM Msvm_ComputerSystem\n")
    answer = wmiquery(service.dcom_port(), credentials("shifter"), file)
    assert "rpc_s_access_denied" in answer.stdout + answer.stderr
