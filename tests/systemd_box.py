"""The distribution's own systemd as process 1 of private namespaces: no image, no D-Bus, booted in half a second.

The host's root is shared; /run, the units, the logs and the private state directories are tmpfs of the namespace.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support import until

INSIDE = r"""
set -e
umount -R -l /sys/fs/cgroup 2>/dev/null || true
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/systemd /run/box/venv /run/box/src
for place in /etc/systemd/system /var/log; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
mkdir -p /var/lib/private
mount -t tmpfs -o mode=700 tmpfs /var/lib/private
for target in sysinit sockets timers local-fs multi-user basic getty graphical remote-fs; do
  for wants in /lib/systemd/system/$target.target.wants /usr/lib/systemd/system/$target.target.wants; do
    [ ! -d "$wants" ] || mount -t tmpfs -o mode=755 tmpfs "$wants"
  done
done
for unit in systemd-remount-fs.service systemd-journald-audit.socket systemd-udevd.service; do
  ln -sf /dev/null /etc/systemd/system/$unit
done
cp -r "$1"/units/. /etc/systemd/system/
cp -r "$1"/files/. /run/box/
chmod -R a+rX /run/box
cat >/etc/systemd/system/box.target <<END
[Unit]
Requires=basic.target systemd-journald.service
After=basic.target systemd-journald.service
AllowIsolate=yes
END
export container=box
exec /lib/systemd/systemd --system --unit=box.target --log-target=console --show-status=no
"""


class Refused(Exception):
    """This machine does not let us boot a systemd; the text says why."""


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


class Box:
    """A booted systemd. units/ and files/ are filled before up(); files/ is /run/box inside."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="box-"))
        self.units = self.folder / "units"
        self.files = self.folder / "files"
        self.units.mkdir()
        self.files.mkdir()
        self.pid = 0
        self._cgroup: Path | None = None
        self._mounted: Path | None = None
        self._outer: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Boot. Raises Refused."""
        if os.geteuid() != 0:
            raise Refused("it takes root")
        if not Path("/lib/systemd/systemd").exists():
            raise Refused("there is no systemd; apt-get install systemd")
        script = self.folder / "inside.sh"
        script.write_text(INSIDE)
        self._cgroup = self._hierarchy() / f"box.{os.getpid()}"
        self._cgroup.mkdir()
        flags = "-m -p -f -C -u -i --mount-proc --propagation private"
        line = f"echo $$ > {self._cgroup}/cgroup.procs && exec unshare {flags} bash {script} {self.folder}"
        with (self.folder / "console.log").open("wb") as log:
            self._outer = subprocess.Popen(["bash", "-c", line], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._outer.poll() is not None:
                raise Refused(f"unshare says: {(self.folder / 'console.log').read_text()[-500:]}")
            self.pid = self.pid or self._child()
            if self.pid and self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.05)
        raise Refused(f"systemd did not come up: {(self.folder / 'console.log').read_text()[-1000:]}")

    def _hierarchy(self) -> Path:
        found = subprocess.run(
            ["findmnt", "-t", "cgroup2", "-n", "-o", "TARGET"], capture_output=True, text=True, check=False
        )
        if found.stdout.strip():
            return Path(found.stdout.splitlines()[0])
        self._mounted = self.folder / "cgroup"
        self._mounted.mkdir()
        made = subprocess.run(
            ["mount", "-t", "cgroup2", "cgroup2", str(self._mounted)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise Refused(f"cgroup2 cannot be mounted: {made.stderr.strip()}")
        return self._mounted

    def _child(self) -> int:
        assert self._outer is not None
        try:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside."""
        into = ["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-u", "-i", "--", *shlex.split(line)]
        return subprocess.run(into, capture_output=True, text=True, timeout=90, check=False)

    def down(self) -> None:
        """End everything inside, and leave nothing."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # process 1 of the namespace: all others go with it
        if self._outer is not None:
            self._outer.wait(20)
        if self._cgroup is not None and self._cgroup.exists():
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                until(lambda place=Path(folder): _removed(place), "the cgroup is empty")  # type: ignore[misc]
        if self._mounted is not None:
            subprocess.run(["umount", "-l", str(self._mounted)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
