import shutil
from pathlib import Path

import pytest


class WrittenProc:
    """A folder that stands for /proc, its files written by hand in the forms of proc(5). 100 ticks are a second."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.cpus(user=0, idle=0)

    def process(
        self,
        pid: int,
        parent: int,
        *,
        session: int = 0,
        ticks: int = 0,
        of_children: int = 0,
        name: str = "engine",
        started: int = 7,
    ) -> None:
        """A process of 4 threads and 10 resident pages. `ticks`: of its own; `of_children`: of those waited for."""
        head = f"{pid} ({name}) S {parent} {pid} {session} 0 -1 4194304 0 0 0 0"
        memory = "1000000 10 18446744073709551615"
        self.file(f"{pid}/stat", f"{head} {ticks} 0 {of_children} 0 20 0 4 0 {started} {memory} 1 1 0 0 0 0 0\n")

    def cpus(self, *, user: int, idle: int, iowait: int = 0, steal: int = 0) -> None:
        """Ticks of two cores together."""
        times = f"{user} 0 0 {idle} {iowait} 0 0 {steal} 0 0"
        self.file("stat", f"cpu  {times}\ncpu0 {times}\ncpu1 {times}\nintr 5 0 0\nctxt 12\n")

    def file(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def end(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))


@pytest.fixture
def proc(tmp_path: Path) -> WrittenProc:
    return WrittenProc(tmp_path / "proc")
