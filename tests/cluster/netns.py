"""Several hosts on one machine: network namespaces on a private bridge, each with its own sshd.

Needs root and nothing else; no packet leaves the namespaces. Every host has its own names, PIDs,
ports and one disk; other files are shared. Names carry our pid, so that test runs do not meet.
"""

import ipaddress
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

DISK_BYTES = 32 << 20
SSH_CONFIG = """\
Host *
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
"""
SSHD_CONFIG = """\
Port 22
HostKey {folder}/hostkey
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PasswordAuthentication no
UsePAM no
PermitRootLogin prohibit-password
UseDNS no
PidFile none
SetEnv DSV4TP_STATE_DIR={folder}/state-{host}
"""


class Network:
    """Hosts by name, e.g. hostA, and a place for the launch, which is none of them.

    With `fabric` the hosts have a second network for their ranks, at eth1.
    """

    def __init__(self, folder, *hosts, fabric=False):
        self.folder = folder
        self.ways = ("eth0", "eth1") if fabric else ("eth0",)
        self.prefix = f"dsv{os.getpid()}"
        self.hosts = hosts
        self.places = ["launch", *hosts]
        self.daemons = {}
        self.disk = folder / "disk"  # a disk of its own on each host

    def __enter__(self):
        try:
            self._keys()
            self.disk.mkdir()
            for name in self.places:
                self._namespace(name)
            for name in self.hosts:
                self._sshd(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.places:
            for process in self.processes(name):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()
        for name in self.places:
            subprocess.run(["ip", "netns", "del", self.name(name)], check=False)
            subprocess.run(["rm", "-rf", f"/etc/netns/{self.name(name)}"], check=True)

    def name(self, host):
        return f"{self.prefix}{host}"

    def address(self, host, way="eth0"):
        net = 77 + self.ways.index(way)
        return f"10.{net}.0.{self.places.index(host) + 1}"

    def invite(self, stranger):
        """One more machine on the same network, which is no host of the cluster."""
        self.places.append(stranger)
        self._namespace(stranger)

    def inside(self, host, *command):
        return ["ip", "netns", "exec", self.name(host), *map(str, command)]

    def cut(self, host, way="eth0"):
        """The host's cable is pulled: silence, no FIN and no RST."""
        run("ip", "-n", self.name(host), "link", "set", way, "down")

    def join(self, host, way="eth0"):
        """The cable is plugged in again."""
        run("ip", "-n", self.name(host), "link", "set", way, "up")

    def unplug(self, host):
        """All cables of the host are pulled."""
        for way in self.ways:
            self.cut(host, way)

    def plug(self, host):
        """All cables are plugged in again."""
        for way in self.ways:
            self.join(host, way)

    def slow(self, host, rate):
        """All that the host sends takes its time, e.g. at "1mbit"."""
        bucket = ["rate", rate, "burst", "4kb", "latency", "2s"]
        for way in self.ways:
            shape = ["tc", "-n", self.name(host), "qdisc", "replace", "dev", way]
            run(*shape, "root", "tbf", *bucket)

    def restore(self):
        """Cables, rates and power are as at first; what runs on hosts is left alone."""
        for host in self.hosts:
            if self.daemons[host].poll() is not None:
                self.boot(host)
            self.plug(host)
            for way in self.ways:
                plain = ["tc", "-n", self.name(host), "qdisc", "del", "dev", way, "root"]
                subprocess.run(plain, capture_output=True, check=False)  # there may be none

    def disk_of(self, host):
        """The host's disk as it is seen from here."""
        (root,) = psutil.Process(self.daemons[host].pid).children()
        return Path(f"/proc/{root.pid}/root{self.disk}")

    def kill(self, host):
        """The host is powered off: every process is gone, and the cable with it."""
        self.unplug(host)
        commands = [process.cmdline() for process in self.processes(host)]
        pages = [Path(words[-1]) for words in commands if "--progress" in words]
        self.daemons[host].kill()
        # A real host would take its files with it; these are on our disk.
        for page in pages:
            shutil.rmtree(page.parents[1], ignore_errors=True)

    def boot(self, host):
        """The host has power again, after `kill`."""
        self.daemons[host].wait()
        self.plug(host)
        self._sshd(host)

    def processes(self, *hosts):
        """All processes in the namespaces of these but those that make them."""
        files = [Path(f"/run/netns/{self.name(host)}") for host in hosts]
        places = {file.stat().st_ino for file in files if file.exists()}
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        found = [_process(pid) for pid in pids if _net(pid) in places]
        return [process for process in found if process and _lives(process)]

    def workers(self):
        """The processes of the ranks, on all hosts."""
        found = self.processes(*self.hosts)
        return [process for process in found if "--progress" in _words(process)]

    def ports(self, host):
        """What is listened on there, but for ssh."""
        listed = run(*self.inside(host, "ss", "-Hltn")).split("\n")
        ports = {line.split()[3].rpartition(":")[2] for line in listed if line}
        return ports - {"22"}

    def wait_empty(self, *hosts, within_s=2):
        """Nothing lives or listens on these hosts any more."""
        ends = time.monotonic() + within_s
        while left := [x for host in hosts for x in (*self.processes(host), *self.ports(host))]:
            assert time.monotonic() < ends, left
            time.sleep(0.05)

    def _keys(self):
        for key in ("key", "hostkey"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        public = (self.folder / "hostkey.pub").read_text()
        names = ",".join(self.hosts)
        (self.folder / "known_hosts").write_text(f"{names} {public}")

    def _namespace(self, host):
        name = self.name(host)
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        for way in self.ways:
            self._plug(host, way)
        self._etc(host, Path("/etc/netns") / name)

    def _plug(self, host, way):
        name = self.name(host)
        if host == "launch":
            # The bridge lives beside the launch, so that nothing of ours is in the real network.
            run("ip", "-n", name, "link", "add", way, "type", "bridge")
        else:
            end = f"{way}{host}"
            pair = ["link", "add", end, "type", "veth", "peer", "name", way, "netns", name]
            run("ip", "-n", self.name("launch"), *pair)
            run("ip", "-n", self.name("launch"), "link", "set", end, "master", way, "up")
        run("ip", "-n", name, "addr", "add", f"{self.address(host, way)}/24", "dev", way)
        run("ip", "-n", name, "link", "set", way, "up")

    def _etc(self, host, etc):
        (etc / "ssh").mkdir(parents=True)
        lines = [f"{self.address(host)} {host}" for host in self.hosts]
        (etc / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
        (etc / "resolv.conf").write_text("")
        (etc / "ssh" / "ssh_config").write_text(SSH_CONFIG.format(folder=self.folder))
        sshd = SSHD_CONFIG.format(folder=self.folder, host=host)
        (etc / "ssh" / "sshd_config").write_text(sshd)

    def _sshd(self, host):
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and an init would have made it
        spaces = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        disk = f"mount -t tmpfs -o size={DISK_BYTES} none {self.disk}"
        script = f"hostname {host}; {disk}; exec /usr/sbin/sshd -D -e"
        command = self.inside(host, *spaces, "sh", "-c", script)
        with (self.folder / f"{host}.log").open("w") as log:
            self.daemons[host] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ends = time.monotonic() + 20
        while "22" not in run(*self.inside(host, "ss", "-Hltn")):
            assert time.monotonic() < ends, (self.folder / f"{host}.log").read_text()
            time.sleep(0.05)


def listening(pid):
    """Every (ip, port) that is listened on in the network that this process sees."""
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
    ]
    return {_socket(words[1]) for words in lines if words[3] == "0A"}


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def usable():
    """Whether this machine lets us."""
    if os.geteuid() != 0 or sys.platform != "linux" or not Path("/usr/sbin/sshd").exists():
        return False
    name = f"dsv{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


def _socket(text):
    """The kernel's way to write an address: words of 4 bytes, each from its end, then the port."""
    digits, port = text.split(":")
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    ip = ipaddress.ip_address(b"".join(words))
    return str(getattr(ip, "ipv4_mapped", None) or ip), int(port, 16)


def _lives(process):
    """Whether it is a process that still runs, and none of those that make the host."""
    try:
        return process.name() not in ("sshd", "unshare") and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def _words(process):
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _net(pid):
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def _process(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None
