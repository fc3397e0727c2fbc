"""Build hook: compiles the optional part of the load path, where there is a C compiler with Python's headers.

Without one the package is complete all the same: the load path then runs in Python. INFEROMETER_COMPILED=0 builds none;
INFEROMETER_COMPILED=1 makes a failed compilation an error, for wheels that must contain it.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/inferometer/load/_compiled.c"
MODULE = "src/inferometer/load/_compiled.abi3.so"


class CompiledPart(BuildHookInterface[Any]):
    """Adds the compiled module to a wheel, or puts it into `src` for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        module = Path(self.root, MODULE)
        module.unlink(missing_ok=True)
        wanted = os.environ.get("INFEROMETER_COMPILED", "")
        problem = "INFEROMETER_COMPILED=0" if wanted == "0" else compile_module(Path(self.root, SOURCE), module)
        if not problem:
            build_data["artifacts"].append(MODULE)
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        elif wanted == "1":
            raise SystemExit(f"the compiled part of the load path could not be built: {problem}")
        else:
            self.app.display_warning(f"The load path runs in Python, because its compiled part is not built: {problem}")


def compile_module(source: Path, module: Path) -> str:
    """Compile and load `source` as `module`. Returns the problem, "" if there is none."""
    compiler = os.environ.get("CC") or "cc"
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    command = [*shlex.split(compiler), "-O2", "-fPIC", *shared, f"-I{sysconfig.get_path('include')}"]
    try:
        done = subprocess.run([*command, "-o", module, source], capture_output=True, text=True, check=False)
        loads = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(module.parent)!r}); import _compiled"]
        loaded = done if done.returncode else subprocess.run(loads, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler}: {error.strerror}"
    if loaded.returncode == 0:
        return ""
    module.unlink(missing_ok=True)
    return next((line for line in loaded.stderr.splitlines() if "error" in line), loaded.stderr.strip())
