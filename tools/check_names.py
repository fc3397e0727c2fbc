"""Names in `src`: no two public classes share a name, and no two modules share a file name (`make check-names`)."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "inferometer"

ALLOWED_MODULES = {
    "__init__": "every package has one",
    "__main__": "`python -m`",
    "base": "the protocol of a package's members",
}
ALLOWED_CLASSES: dict[str, str] = {}
"""Class name → reason."""
ALIASES = ("Annotated", "Literal")


def public_classes(tree: ast.Module) -> Iterator[str]:
    """Public classes and public aliases of `Annotated[…]` or `Literal[…]` at the top level of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Subscript)
            and isinstance(node.value.value, ast.Name)
            and node.value.value.id in ALIASES
        ):
            name = node.targets[0].id
        else:
            continue
        if not name.startswith("_"):
            yield name


def duplicates(source: Path) -> list[str]:
    """One line for each class name or file name that occurs more than once, with the places."""
    classes: dict[str, list[str]] = defaultdict(list)
    modules: dict[str, list[str]] = defaultdict(list)
    for path in sorted(source.rglob("*.py")):
        place = str(path.relative_to(source))
        if path.parent.name != "cli":  # a command's module carries the command's name
            modules[path.stem].append(place)
        for name in public_classes(ast.parse(path.read_text(encoding="utf-8"))):
            classes[name].append(place)
    return [
        *_repeated("class", classes, ALLOWED_CLASSES),
        *_repeated("module", modules, ALLOWED_MODULES),
    ]


def _repeated(kind: str, places: dict[str, list[str]], allowed: dict[str, str]) -> list[str]:
    return [
        f"{kind} {name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1 and name not in allowed
    ]


def main() -> int:
    found = duplicates(SOURCE)
    for line in found:
        print(f"name used more than once: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
