"""Logons and queries over DCOM leave nothing behind: no descriptors, no memory, no objects in tables.

A short form, which does not wait for the tables: what a client never gives back is kept for six
minutes after its connection has ended. ROOTVIRT_SOAK_LOGONS says how many logons instead, with ten
queries each, and then the tables must be empty in the end (`cargo xtask soak logons`).
"""

import asyncio
import os
import pathlib
import re
import shutil
import tempfile
import time

import pytest

from conftest import PASSWORD, Service, required
from dcom_client import Aiowmi, seen_by_aiowmi

SOAK = "ROOTVIRT_SOAK_LOGONS" in os.environ
LOGONS = int(os.environ.get("ROOTVIRT_SOAK_LOGONS", 20))
QUERIES = 10
# Beside what clients hold: a logon that is not released (aiowmi does not) is kept for minutes.
FREE, EACH = 24 << 20, 16 << 10
# What aiowmi leaves of a logon: the login, the namespace, and each query's enumerator (of which it
# releases the smart form only).
LEFT = 2 + QUERIES
# How long what is left is kept, and then time for a collection.
KEPT, PATIENCE = 360, 180
QUERY = "SELECT * FROM Msvm_VirtualSystemManagementService"
COLLECTION = re.compile(r"held by clients.* objects=(\d+) interfaces=(\d+) ping_sets=(\d+)")


@pytest.fixture
def alone():
    """A service of its own, whose log tells what clients hold."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rootvirt-test-"))
    service = Service(required("ROOTVIRT_TEST_PROGRAM"), folder / "data")
    service.account("admin", "administrator", "--ntlm")
    try:
        yield service.start({"ROOTVIRT_LOG": "info,dcom=debug", "NO_COLOR": "1"})
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)


def memory(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def tables(service):
    """Objects, interfaces and ping sets at each collection so far."""
    log = (service.data_dir.parent / "serve.log").read_text(errors="replace")
    plain = re.sub(r"\x1b\[\d*m", "", log)
    return [tuple(map(int, each)) for each in COLLECTION.findall(plain)]


async def logons(client, count):
    for _ in range(count):
        answers = await client.answers([QUERY] * QUERIES, True, seen_by_aiowmi)
        assert [len(rows) for rows in answers] == [1] * QUERIES


def wait_until(condition, seconds, say):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, say()
        time.sleep(0.2)


def test_logons_and_queries_leave_nothing_behind(alone):
    client, pid = Aiowmi(alone.dcom_port(), "admin", PASSWORD), alone.process.pid
    asyncio.run(logons(client, 5))
    before, open_before = memory(pid), descriptors(pid)
    asyncio.run(logons(client, LOGONS))
    wait_until(lambda: descriptors(pid) <= open_before + 4, 120,
               lambda: (descriptors(pid), open_before))
    grown = memory(pid) - before
    print(f"{LOGONS} logons, {LOGONS * QUERIES} queries: {grown / (1 << 20):.1f} MiB more")
    assert grown < FREE + LOGONS * EACH, grown
    # The first collection is at the start.
    assert tables(alone)[0] == (0, 0, 0)
    if not SOAK:
        return

    def ended():
        seen = tables(alone)
        return any(objects for objects, _, _ in seen) and seen[-1] == (0, 0, 0)
    wait_until(ended, KEPT + PATIENCE, lambda: tables(alone)[-3:])
    most = max(tables(alone))
    print(f"most at a collection: {most}; {(memory(pid) - before) / (1 << 20):.1f} MiB more when "
          "the tables are empty")
    assert most[0] <= (LOGONS + 5) * LEFT, most
