"""The memory that control groups leave to this process: containers, SLURM, systemd, in version 1 and 2 of cgroups.

A process sees its groups in /proc/self/cgroup and where they are mounted in /proc/self/mountinfo. The limits of all
groups above its own hold as well. In a container the path of the group may be that of the host, of which only the end
is mounted; then the group is the mount itself.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

UNLIMITED = 2**60  # version 1 says "no limit" by a number near 2^63


def memory_left(proc: pathlib.Path = pathlib.Path("/proc/self")) -> int | None:
    """Bytes that may still be allocated under the limits of this process's groups; None if there is no limit."""
    found = [left for folder, names in _groups(proc) if (left := _left(folder, *names)) is not None]
    return min(found, default=None)


def _groups(proc: pathlib.Path) -> Iterator[tuple[pathlib.Path, tuple[str, str, str]]]:
    """The folders of the groups that hold this process, and the files there: limit, usage, key of what is cached."""
    try:
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (group for group in groups if len(group) == 3):
        first = controllers.split(",") == [""]
        if not first and "memory" not in controllers.split(","):
            continue
        kind = "cgroup2" if first else "cgroup"
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if first
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        for mount in mounts:
            dash = mount.index("-") if "-" in mount else len(mount)
            of_kind = mount[dash + 1 : dash + 2] == [kind]
            if not of_kind or not (first or "memory" in mount[-1].split(",")):
                continue
            root, at = _plain(mount[3]), pathlib.Path(_plain(mount[4]))
            inside = path if root == "/" else path[len(root) :] if path.startswith(root) else ""
            own = at / inside.strip("/")
            own = own if own.is_dir() else at
            for folder in (own, *own.parents):
                yield folder, names
                if folder == at:
                    break


def _plain(path: str) -> str:
    """A path of mountinfo, in which spaces are written as octal numbers."""
    return path.encode().decode("unicode_escape") if "\\" in path else path


def _left(folder: pathlib.Path, limit: str, usage: str, cached: str) -> int | None:
    """What is left of a group's limit; None if it has none."""
    try:
        most, used, stat = ((folder / name).read_text().strip() for name in (limit, usage, "memory.stat"))
    except OSError:
        return None
    if not (most.isdecimal() and used.isdecimal()) or int(most) >= UNLIMITED:
        return None
    # Pages of files that were read count as used, and are given back when memory is asked for.
    given_back = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith(f"{cached} ")), 0)
    return max(0, int(most) - int(used) + given_back)
