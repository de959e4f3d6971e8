"""Logons and queries over DCOM leave nothing behind: no descriptors, no memory.

A short form; ROOTVIRT_SOAK_LOGONS says how many logons instead (with ten queries each; 1000 is the
long form: `ROOTVIRT_SOAK_LOGONS=1000 pytest test_dcom_load.py`).
"""

import asyncio
import os
import time

from conftest import PASSWORD
from dcom_client import Aiowmi, seen_by_aiowmi

LOGONS = int(os.environ.get("ROOTVIRT_SOAK_LOGONS", 20))
QUERIES = 10
# Beside what clients hold: a logon that is not released (aiowmi does not) is kept for minutes.
FREE, EACH = 24 << 20, 16 << 10
QUERY = "SELECT * FROM Msvm_VirtualSystemManagementService"


def memory(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


async def logons(client, count):
    for _ in range(count):
        answers = await client.answers([QUERY] * QUERIES, True, seen_by_aiowmi)
        assert [len(rows) for rows in answers] == [1] * QUERIES


def test_logons_and_queries_leave_nothing_behind(service):
    client, pid = Aiowmi(service.dcom_port(), "admin", PASSWORD), service.process.pid
    asyncio.run(logons(client, 5))
    before, open_before = memory(pid), descriptors(pid)
    asyncio.run(logons(client, LOGONS))
    end = time.monotonic() + 120
    while descriptors(pid) > open_before + 4:
        assert time.monotonic() < end, (descriptors(pid), open_before)
        time.sleep(0.2)
    grown = memory(pid) - before
    print(f"{LOGONS} logons, {LOGONS * QUERIES} queries: {grown / (1 << 20):.1f} MiB more")
    assert grown < FREE + LOGONS * EACH, grown
