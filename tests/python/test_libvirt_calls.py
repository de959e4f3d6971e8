"""What libvirt's driver for Hyper-V does for `virsh`, over HTTP with Basic, to a guest that runs."""

import contextlib
import shutil
import time

import pytest
from conftest import PASSWORD, Guest, disk, required
from libvirt_driver import (
    DISABLED, ENABLED, OFFLINE, QUIESCE, REBOOT, RESET, Connection, DriverError, define)

# Windows' code of the key A, and Linux's, which the guest tells.
VK_A, KEY_A = 0x41, 30


@pytest.fixture(scope="module")
def virsh(service):
    return Connection(service.endpoints["wsman"], "admin", PASSWORD)


@pytest.fixture(scope="module")
def folder(service):
    folder = service.data_dir.parent / "virsh"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def domain(virsh, folder):
    """A machine made by the driver's calls alone, with a guest in it."""
    boot = folder / "boot.raw"
    shutil.copy(required("ROOTVIRT_TEST_GUEST"), boot)
    data = disk(folder / "data.raw", "64M")
    return define(virsh, "virsh 'one'", 1, 256,
                  [("disk", "ide", 0, 0, [str(boot)]), ("disk", "scsi", 0, 0, [str(data)])],
                  [("COM 1", [f"unix:{folder}/com1"])])


@pytest.fixture(scope="module")
def running(virsh, service, folder, domain):
    guest = Guest(service, domain.name, folder)
    domain.request(ENABLED)
    guest.serial().wait("tick ", 120)
    return guest


def off(domain, seconds=120):
    """Waits until the machine is off."""
    end = time.monotonic() + seconds
    while domain.state() != DISABLED:
        assert time.monotonic() < end, "the machine is not off"
        time.sleep(0.2)


def shut_down(domain):
    """A guest that has just started does not look at its power button yet, so it is asked again. One
    that is off by then has no shutdown component any more."""
    for _ in range(6):
        with contextlib.suppress(DriverError, ValueError):
            domain.shutdown()
        with contextlib.suppress(AssertionError):
            return off(domain, 20)
    raise AssertionError("the guest does not notice its power button")


def boot_of(guest, unlike=None, seconds=120):
    """Which boot of the guest this is, once it is another one than `unlike`. The guest has answered on
    `guest.connected` then: what it says before QEMU has taken a connection is lost."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, AssertionError):
            serial = guest.serial()
            serial.socket.sendall(b"hello\n")
            ready = serial.wait("rootvirt-guest ready", 5)
            boot, = (word for word in ready.split() if word.startswith("boot="))
            if boot != unlike:
                return boot
        assert time.monotonic() < end, "the guest did not start"
        time.sleep(0.2)


def test_the_host(virsh):
    # version
    major, minor, build = (int(part) for part in virsh.version.split("."))
    assert major <= 99 and minor <= 99 and build <= 999999
    # hostname, nodeinfo, freecell, maxvcpus
    host = virsh.computer()
    assert host["DNSHostName"] and int(host["TotalPhysicalMemory"]) > 0
    sockets = virsh.processors()
    assert sockets and all(int(it["NumberOfLogicalProcessors"]) >= 1 for it in sockets)
    assert len(sockets[0]["Name"].split(" @ ")[0]) < 64
    assert int(sockets[0]["NumberOfCores"]) >= 1 and int(sockets[0]["MaxClockSpeed"]) > 0
    assert virsh.free_memory > 0
    assert virsh.most_processors() >= 2
    # net-list: there are no switches here, which is no error
    assert virsh.networks() == []


def test_a_machine_is_defined_from_a_description(virsh, folder, domain):
    assert domain.state() == DISABLED
    told = domain.description()
    assert told == {
        "name": "virsh 'one'", "memory": 256, "most": 256, "processors": 1, "notes": None,
        "disks": [("disk", "ide", 0, 0, [str(folder / "boot.raw")]),
                  ("disk", "scsi", 0, 0, [str(folder / "data.raw")])],
        "ports": [("COM 1", [f"unix:{folder}/com1"])], "networks": []}
    # A description can be given back.
    image = disk(folder / "cd.iso", "1M")
    again = define(virsh, "virsh two", 2, 128,
                   [("cdrom", "ide", 1, 0, [str(image)])])
    assert again.name in [it["ElementName"] for it in virsh.inactive()]
    assert again.description()["disks"] == [("cdrom", "ide", 1, 0, [str(image)])]
    copy = again.description()
    again.undefine()
    again = define(virsh, copy["name"], copy["processors"], copy["memory"], copy["disks"])
    assert again.description() == copy
    # setvcpus, setmem, autostart, attach-disk
    again.set_processors(1)
    again.set_memory(64)
    again.set_autostart(True)
    more = disk(folder / "more.raw", "1M")
    ide, _ = again.controllers()
    again.attach_disk(ide["0"], 1, str(more))
    told = again.description()
    assert (told["processors"], told["memory"]) == (1, 64)
    assert ("disk", "ide", 0, 1, [str(more)]) in told["disks"]
    assert again.settings()["AutomaticStartupAction"] == "4"
    again.set_autostart(False)
    assert again.settings()["AutomaticStartupAction"] == "2"
    again.undefine()
    with pytest.raises(DriverError):
        virsh.by_name("virsh two")


def test_a_guest_is_listed_paused_saved_and_goes_on(virsh, domain, running):
    # list --all, domid, dominfo, domstate
    assert domain.name in [it["ElementName"] for it in virsh.active()]
    process = domain.system()["ProcessID"]
    found, = virsh.domains(f"AND ProcessID = {process}")
    assert found["ElementName"] == domain.name
    before = running.serial().tick()
    # suspend, resume
    domain.request(QUIESCE)
    assert domain.state() == QUIESCE
    domain.request(ENABLED)
    # managedsave, start
    domain.request(OFFLINE)
    assert domain.state() == OFFLINE
    assert domain.settings()["IsSaved"].lower() == "true"
    domain.request(ENABLED)
    assert running.serial().tick() > before
    # vcpuinfo
    used, missing = domain.processor_times(2)
    assert used > 0 and missing is None


def test_keys_and_the_screen(domain, running):
    boot_of(running)
    serial = running.connected
    domain.send_keys(VK_A)
    serial.wait(f"rootvirt-guest key {KEY_A}", 120)
    width, height, picture = domain.screenshot()
    assert len(picture) == width * height * 2
    # The guest writes on its screen, so it is not of one colour.
    assert len({picture[at:at + 2] for at in range(0, len(picture), 2)}) > 1
    # The next one is as large as the screen was.
    width, height = domain.resolution()
    assert width > 0 and height > 0


def test_a_guest_is_rebooted_reset_shut_down_and_undefined(virsh, domain, running):
    # reboot: the guest is asked, and starts anew
    first = boot_of(running)
    domain.request(REBOOT)
    second = boot_of(running, unlike=first)
    # reset: it is not asked
    domain.request(RESET)
    boot_of(running, unlike=second)
    # shutdown, which the guest may miss: it has only just started
    shut_down(domain)
    assert domain.name in [it["ElementName"] for it in virsh.inactive()]
    with pytest.raises(DriverError):
        domain.request(REBOOT)
    # start, destroy, undefine
    domain.request(ENABLED)
    assert domain.state() == ENABLED
    domain.request(DISABLED)
    off(domain)
    domain.undefine()
    assert domain.name not in [it["ElementName"] for it in virsh.domains()]
