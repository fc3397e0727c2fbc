"""Languages whose programs can be checked: the file, the programs needed, and how to build and run. Pure."""

import re

import msgspec


class Language(msgspec.Struct, frozen=True):
    """`programs`: those that must be installed. `command`: a line of `sh`. `extra_s`: seconds that building and
    starting may take, added to the time limit. `install`: Debian packages. `library`: a file of `quality/data` that is
    put next to the program."""

    file: str
    programs: tuple[str, ...]
    command: str
    extra_s: float = 0.0
    install: str = ""
    library: str = ""


LANGUAGES: dict[str, Language] = {
    "python": Language("main.py", ("python3",), "python3 main.py", 1, "python3"),
    "javascript": Language("main.js", ("node",), "node main.js", 2, "nodejs node-lodash"),
    "typescript": Language(
        "main.ts",
        ("node", "tsc"),
        "printf '%s' \"declare module 'assert'; declare var require: any, process: any, console: any;\" > node.d.ts; "
        "tsc --target es2020 --module commonjs --lib es2020 node.d.ts main.ts > errors; test -f main.js || "
        "{ cat errors >&2; exit 1; }; node main.js",
        20,
        "nodejs node-typescript",
    ),
    "java": Language(
        "Main.java",
        ("javac", "java"),
        "javac -J-Xmx512m -nowarn Main.java && java -Xmx512m -XX:+UseSerialGC -ea Main",
        20,
        "default-jdk-headless",
    ),
    "go": Language("main.go", ("go",), "go build -o main main.go && ./main", 30, "golang-go"),
    "cpp": Language("main.cpp", ("g++",), "g++ -std=c++17 -O1 -w -o main main.cpp && ./main", 20, "g++"),
    "ruby": Language("main.rb", ("ruby",), "ruby main.rb", 1, "ruby"),
    "php": Language("main.php", ("php",), "php main.php", 1, "php-cli"),
    "perl": Language("main.pl", ("perl",), "perl main.pl", 1, "perl libdata-compare-perl"),
    "kotlin": Language(
        "main.kt",
        ("kotlinc", "java"),
        "kotlinc main.kt -include-runtime -d main.jar > errors 2>&1 || { cat errors >&2; exit 1; }; "
        "java -Xmx512m -jar main.jar",
        60,
        "kotlin",
    ),
    "scala": Language("main.scala", ("scalac", "scala"), "scalac main.scala && scala -cp . Main", 60, "scala"),
    "swift": Language("main.swift", ("swiftc",), "swiftc -o main main.swift && ./main", 60),
    "csharp": Language(
        "main.cs",
        ("mcs", "mono"),
        "mcs -nologo -nowarn:0168,0219 -out:main.exe main.cs CompareObjects.cs > errors 2>&1 || "
        "{ cat errors >&2; exit 1; }; mono main.exe",
        30,
        "mono-mcs",
        "CompareObjects.cs",
    ),
}
"""By the name that mxeval uses."""

_GO_IMPORT = re.compile(r'^import\s*(?:\(([^)]*)\)|("[^"]+"))[ \t]*\n?', re.MULTILINE)


def joined(language: str, before: str, code: str, tests: str) -> str:
    """One program from what precedes the answer, its code, and the tests."""
    if language == "go":
        return _go(before, code, tests)
    if language == "php" and before.lstrip().startswith("<?php"):
        code = code.replace("<?php", "").replace("?>", "")
    if language == "php" and not (before + code).lstrip().startswith("<?php"):
        before = "<?php\n" + before
    return f"{before}\n{code}\n{tests}\n"


def _go(before: str, code: str, tests: str) -> str:
    """Go allows one package line, imports at the top only, and none that is not used."""
    whole = "\n".join((before, code, tests))
    named = [name for found in _GO_IMPORT.finditer(whole) for name in re.findall(r'"[^"]+"', found[0])]
    body = re.sub(r"^package\s+\w+[ \t]*$", "", _GO_IMPORT.sub("", whole), flags=re.MULTILINE)
    used = [
        name
        for name in dict.fromkeys(named)
        if re.search(rf"\b{re.escape(name.strip(chr(34)).split('/')[-1])}\.", body)
    ]
    return "package main\n\n" + "".join(f"import {name}\n" for name in used) + body
