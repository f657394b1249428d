"""The limits of control groups, as a machine's files would tell them."""

import pytest

from jaxrec.runtime import cgroups

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def group(folder, names, limit, used, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")


def process(tmp_path, cgroup, *mounts):
    """A folder like /proc/self of a process in these groups."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    lines = [
        f"{36 + n} 25 0:{n} {root} {at} rw,nosuid shared:{n} - {kind} cgroup {options}"
        for n, (root, at, kind, options) in enumerate(mounts)
    ]
    (proc / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "\n".join(lines) + "\n")
    return proc


def test_without_groups_or_limits_there_is_none(tmp_path):
    assert cgroups.memory_left(tmp_path / "nothing") is None
    at = tmp_path / "cgroup"
    group(at / "user.slice", V2, "max", 900)
    assert cgroups.memory_left(process(tmp_path, "0::/user.slice\n", ("/", at, "cgroup2", "rw"))) is None


def test_the_tightest_of_all_groups_above_counts(tmp_path):
    at = tmp_path / "cgroup"
    group(at / "slurm" / "job_7", V2, 5000, 1000)
    group(at / "slurm", V2, 3000, 2500, cached=100)
    proc = process(tmp_path, "0::/slurm/job_7\n", ("/", at, "cgroup2", "rw,nsdelegate"))
    assert cgroups.memory_left(proc) == 600


@pytest.mark.parametrize("inside", (True, False))
def test_version_1_and_a_container_that_sees_its_own_group_as_the_mount(tmp_path, inside):
    at = tmp_path / "memory with spaces"
    group(at, V1, 2**63 - 4096 if inside else 4000, 1000)
    if inside:
        group(at / "docker" / "abc", V1, 2000, 1500, cached=300)
    text = "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n"
    escaped = str(at).replace(" ", "\\040")
    proc = process(tmp_path, text, ("/", "/nowhere", "cgroup", "rw,cpu"), ("/", escaped, "cgroup", "rw,memory"))
    assert cgroups.memory_left(proc) == (800 if inside else 3000)


def test_a_group_that_is_mounted_by_its_end(tmp_path):
    at = tmp_path / "cgroup"
    group(at / "mine", V2, 700, 200)
    proc = process(tmp_path, "0::/kubepods/pod1/mine\n", ("/kubepods/pod1", at, "cgroup2", "rw"))
    assert cgroups.memory_left(proc) == 500
    group(at / "mine", V2, 100, 200)
    assert cgroups.memory_left(proc) == 0
