"""Trees written by hand after the kernel's cgroup-v1 and cgroup-v2 documentation."""

from pathlib import Path

from inferometer.probes.cgroup import Limits, limits, throttled_s


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_tightest_group_on_the_way_up_decides(tmp_path: Path):
    proc = tree(tmp_path / "proc", **{"self/cgroup": "0::/slice/box\n"})
    root = tree(
        tmp_path / "cgroup",
        **{
            "slice/cpu.max": "200000 100000\n",
            "slice/memory.max": "4096\n",
            "slice/box/cpu.max": "max 100000\n",
            "slice/box/memory.max": "8192\n",
        },
    )
    assert limits(proc, root) == Limits(2.0, 4096, root / "slice" / "cpu.stat")


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path):
    proc = tree(tmp_path / "proc", **{"self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n1:pids:/box\n"})
    root = tree(
        tmp_path / "cgroup",
        **{
            "cpu/box/cpu.cfs_quota_us": "50000\n",
            "cpu/box/cpu.cfs_period_us": "100000\n",
            "memory/box/memory.limit_in_bytes": "1048576\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",  # none
        },
    )
    assert limits(proc, root) == Limits(0.5, 1048576, root / "cpu" / "box" / "cpu.stat")


def test_in_a_container_the_mounted_root_is_ours(tmp_path: Path):
    proc = tree(tmp_path / "proc", **{"self/cgroup": "0::/docker/abc\n"})
    root = tree(tmp_path / "cgroup", **{"cpu.max": "400000 100000\n", "memory.max": "max\n"})
    assert limits(proc, root) == Limits(4.0, None, root / "cpu.stat")


def test_without_groups_there_is_no_limit(tmp_path: Path):
    assert limits(tmp_path / "proc", tmp_path / "cgroup") == Limits()
    proc = tree(tmp_path / "proc", **{"self/cgroup": "4:cpu:/\n"})
    unlimited = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert limits(proc, tree(tmp_path / "cgroup", **unlimited)) == Limits()


def test_how_long_it_held_us_back_is_told_in_either_versions_words(tmp_path: Path):
    second = tree(tmp_path, two="nr_throttled 3\nthrottled_usec 1500000\n") / "two"
    first = tree(tmp_path, one="nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n") / "one"
    assert (throttled_s(second), throttled_s(first)) == (1.5, 1.5)
    assert throttled_s(tree(tmp_path, none="nr_periods 0\n") / "none") is None
    assert throttled_s(tmp_path / "missing") is None
