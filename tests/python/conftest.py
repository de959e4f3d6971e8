"""A running service, a guest with two data disks, and pywbem connections to it.

The harness gives the program and the guest's boot disk by environment:
ROOTVIRT_TEST_PROGRAM (the rootvirt program) and ROOTVIRT_TEST_GUEST (see `cargo xtask guest`).
"""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import pywbem

# `requests` lets these overrule what a connection says about the certificates it trusts.
for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(variable, None)

NAMESPACE = "root/virtualization"
PASSWORD = "correct horse battery staple"

# States that V1 clients poll through; everything else is an end.
JOB_RUNNING = (3, 4)
JOB_COMPLETED = 7


def required(name):
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set; run the tests with `cargo xtask test`")
    return pathlib.Path(value)


class Service:
    """`rootvirt serve` on a data directory of its own."""

    def __init__(self, binary, data_dir):
        self.binary = binary
        self.data_dir = data_dir
        self.process = None
        self.endpoints = {}
        self.log = open(data_dir.parent / "serve.log", "ab")

    def run(self, *arguments, check=True):
        command = [self.binary, "--data-dir", self.data_dir, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stderr}{self.tail()}")
        return done

    def json(self, *arguments):
        return json.loads(self.run("--format", "json", *arguments).stdout)

    def tail(self):
        text = (self.data_dir.parent / "serve.log").read_text(errors="replace")
        return "\n--- serve.log ---\n" + text[-4000:]

    def start(self, environment=None):
        """Started again, it listens where it did before: connections stay good."""
        plain = self.endpoints.get("cimxml", "127.0.0.1:0")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data-dir", self.data_dir, "--cimxml", plain,
             "--cimxml-tls", "127.0.0.1:0",
             "--wsman", self.endpoints.get("wsman", "127.0.0.1:0"),
             "--wsman-tls", "127.0.0.1:0", "--dcom", self.endpoints.get("dcom", "127.0.0.1:0"),
             "--accelerator", "tcg"],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, **(environment or {})})
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline() if ready else ""
        assert line, "the service did not get ready" + self.tail()
        answer = json.loads(line)
        assert answer["ready"] is True
        self.endpoints = answer["endpoints"]
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)

    def connect(self, user="admin", password=PASSWORD, timeout=30, **options):
        url = "http://" + self.endpoints["cimxml"]
        return pywbem.WBEMConnection(
            url, (user, password), default_namespace=NAMESPACE, timeout=timeout, **options)

    def dcom_port(self):
        return int(self.endpoints["dcom"].rsplit(":", 1)[1])

    def account(self, name, role, *options):
        secret = self.data_dir.parent / "password"
        secret.write_text(PASSWORD + "\n")
        self.run("account", "add", name, "--role", role, "--password-file", str(secret), *options)


def kill_guests(data_dir):
    """Guests outlive the service; the tests' own ones must not outlive the tests."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"qemu-system" in command.split(b"\0")[0] and os.fsencode(data_dir) in command:
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture(scope="session")
def service():
    binary = required("ROOTVIRT_TEST_PROGRAM")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rootvirt-test-"))
    service = Service(binary, folder / "data")
    service.account("admin", "administrator", "--ntlm")
    service.account("watcher", "viewer", "--ntlm")
    service.account("shifter", "operator")
    try:
        yield service.start()
    finally:
        service.stop()
        kill_guests(service.data_dir)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def connection(service):
    return service.connect()


def disk(path, size):
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", path, size], check=True)
    return path


class Serial:
    """The guest's first serial port, as lines."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.buffer = b""

    def line(self, seconds=60):
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            assert left > 0, f"no line on the serial port in {seconds} s: {self.buffer!r}"
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(4096)
            except TimeoutError:
                continue
            assert data, "the serial port closed"
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def wait(self, prefix, seconds=60):
        end = time.monotonic() + seconds
        while True:
            line = self.line(max(0.1, end - time.monotonic()))
            if line.startswith(prefix):
                return line

    def fill(self, mebibytes):
        """Makes the guest hold that much noise, so that a snapshot takes a while."""
        self.socket.sendall(f"fill {mebibytes}\n".encode())
        self.wait("ok fill")

    def tick(self):
        """The guest's RAM counter, as it says it once a second."""
        words = self.wait("tick ").split()
        return int(words[words.index("ram") + 1])


class Guest:
    def __init__(self, service, name, folder):
        self.service, self.name, self.folder = service, name, folder
        self.serial_path = folder / "com1"
        self.connected = None

    def serial(self):
        """A new connection. QEMU serves one at a time, so that the one before ends."""
        if self.connected is not None:
            self.connected.socket.close()
        self.connected = Serial(self.serial_path)
        return self.connected


@pytest.fixture(scope="session")
def guest(service):
    """A running guest that counts on two data disks, one IDE and one SCSI."""
    image = required("ROOTVIRT_TEST_GUEST")
    folder = service.data_dir.parent / "guest"
    folder.mkdir()
    boot = folder / "boot.raw"
    shutil.copy(image, boot)
    guest = Guest(service, "web01", folder)
    service.run(
        "vm", "create", guest.name, "--memory", "256M", "--disk", str(boot),
        "--disk", str(disk(folder / "data1.raw", "64M")),
        "--disk", "scsi:" + str(disk(folder / "data2.raw", "64M")),
        "--serial", str(guest.serial_path))
    service.run("vm", "start", guest.name)
    serial = guest.serial()
    serial.wait("tick ", 90)
    return guest


def follow(connection, job_path, seconds=120):
    """Polls a job as clients do, until it leaves 3 and 4; percent never falls."""
    end, percent = time.monotonic() + seconds, 0
    while True:
        job = connection.GetInstance(job_path)
        assert job["PercentComplete"] >= percent, "progress fell"
        percent = job["PercentComplete"]
        if job["JobState"] not in JOB_RUNNING:
            return job
        assert time.monotonic() < end, f"the job did not end in {seconds} s"
        time.sleep(0.1)
