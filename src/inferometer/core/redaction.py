"""Redaction of set-ups: finds secrets by the names of flags and variables, and replaces them. Pure.

A secret is the value of a flag, variable or query parameter whose name indicates one (`--api-key`, `HF_TOKEN`,
`?sig=`), the name and password in an address, and the text after `Bearer` or `Basic`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from inferometer.base.error_message import json_of
from inferometer.base.redactor import MARK, Redactor, header_secrets
from inferometer.core.spec import Arm, Sampling, Spec
from inferometer.net.target import proxy_secrets

LEAST_OF_OURS = 12
"""Shorter values of this process's environment are not searched for: most have nothing to do with the study."""

_SURE = frozenset(
    "apikey apikeys secret secrets password passwords passwd passphrase pwd credential credentials authorization "
    "bearer sig signature cookie cookies jwt".split()
)
_AMBIGUOUS = frozenset({"key", "keys", "token", "tokens", "pass", "pat"})  # --max-tokens, --sort-key, KEY_LEN
_BEFORE = frozenset("api access auth secret private hf github gh gitlab id refresh bot service wandb".split())
"""A key or a token of these is a secret, whatever follows: `HF_TOKEN_2`, `AWS_ACCESS_KEY_ID`."""
_OF_A_MODEL = frozenset("bos eos eot pad unk stop start end mask image special next per num max min".split())
"""Words before `token` and `key` for parts of a model, and for numbers."""
_NO_SECRET = frozenset({"file", "path", "dir"})  # --api-key-file, --ssl-key-file: the place of a secret
_SHORT_FLAGS = frozenset({"-hft"})  # llama.cpp's --hf-token
_DIRECTORY_VARIABLES = frozenset({"PWD", "OLDPWD"})  # set by every shell; --pwd and DB_PWD are passwords
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_USER = re.compile(r"(://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")
_QUERY = re.compile(r"([?&;])([^=&;#?\s]+)=([^&;#\s\"']+)")
_SCHEME = re.compile(r"\b(bearer|basic)(\s+|%20)([^\s\"',;]+)", re.IGNORECASE)
_HEADER = re.compile(r"^([\w-]+)(\s*[:=]\s*)(.+)$", re.DOTALL)
_IN_LINE = re.compile(r"(?P<name>-{1,2}[\w-]+|\b\w+(?==))(?P<mark>=|\s+)(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"';|&]+)")


def is_secret_name(name: str) -> bool:
    """Whether the name of a flag, variable, header or query parameter indicates a secret value.

    `--api-key`, `HF_TOKEN`, `my_password`; not `--max-tokens`, `TOKENIZERS_PARALLELISM`, `--api-key-file`.
    """
    if name in _SHORT_FLAGS:
        return True
    if name in _DIRECTORY_VARIABLES:
        return False
    parts = [part for part in re.split(r"[^a-z0-9]+", _CAPITAL.sub("_", name).lower()) if part]
    while len(parts) > 1 and parts[-1].isdecimal():
        parts.pop()
    if not parts or parts[-1] in _NO_SECRET:
        return False
    if not _SURE.isdisjoint(parts) or parts[-1].endswith(("apikey", "password")):
        return True
    before = dict(zip(parts[1:], parts, strict=False))
    if any(before.get(word) in _BEFORE for word in _AMBIGUOUS & set(parts)):
        return True
    last = parts[-1]
    return last in _AMBIGUOUS - {"keys", "tokens"} and before.get(last) not in _OF_A_MODEL


def redacted_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, each secret as `***`."""
    shown: list[str] = []
    hide = False
    for word in words:
        flag, equals, value = word.partition("=")
        if hide:
            shown.append(MARK)
        elif word.startswith("-") and equals:
            shown.append(f"{flag}={MARK if is_secret_name(flag) else redacted_words([value])[0]}")
        elif (assigned := re.fullmatch(r"(\w+)=.+", word, re.DOTALL)) and is_secret_name(assigned[1]):
            shown.append(f"{assigned[1]}={MARK}")  # as `env` takes it
        else:
            shown.append(_redacted_word(word))
        hide = not hide and word.startswith("-") and is_secret_name(word)
    return shown


def _redacted_word(word: str) -> str:
    """A word that may be JSON, or a line for a shell."""
    value = json_of(word) if word.startswith(("{", "[")) else None
    if isinstance(value, dict | list):
        shown = _redacted_json(value)
        return word if shown == value else msgspec.json.encode(shown).decode()
    if _HEADER.match(word) and redacted_text(word) != word:
        return redacted_text(word)
    return redacted_line(word) if any(char.isspace() for char in word) else redacted_text(word)


def redacted_text(text: str) -> str:
    """An address or a header's line without its secrets: `//***@`, `?sig=***`, `Bearer ***`, `X-Api-Key: ***`."""
    header = _HEADER.match(text)
    return f"{header[1]}{header[2]}{MARK}" if header and is_secret_name(header[1]) else _redacted_parts(text)


def _redacted_parts(text: str) -> str:
    """`redacted_text` for a text that may hold several addresses and headers."""
    text = _USER.sub(rf"\1{MARK}@", text)
    text = _QUERY.sub(lambda found: f"{found[1]}{found[2]}={MARK if is_secret_name(found[2]) else found[3]}", text)
    return _SCHEME.sub(rf"\1\2{MARK}", text)


def redacted_line(line: str) -> str:
    """A line for the shell without its secrets."""

    shown, at = "", 0
    for found in _secrets_in_line(line):
        shown += f"{line[at : found.start('value')]}{MARK}"
        at = found.end()
    return _redacted_parts(shown + line[at:])


def _secrets_in_line(line: str) -> Iterator[re.Match[str]]:
    """The flags and variables with secret values. After another flag may come a flag: `--verbose --api-key k`."""
    found = _IN_LINE.search(line)
    while found:
        hides = is_secret_name(found["name"])
        if hides:
            yield found
        found = _IN_LINE.search(line, found.end() if hides else found.end("mark"))


def redacted_env(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with each secret value as `***`."""
    return {name: MARK if is_secret_name(name) else redacted_text(value) for name, value in env.items()}


def redacted_spec(spec: Spec) -> Spec:
    """The spec as it is stored, with each secret as `***`. Redacting it again changes nothing."""
    arms = {name: _redacted_arm(arm) for name, arm in spec.arms.items()}
    sampling = msgspec.structs.replace(spec.sampling, extra_body=_redacted_json(spec.sampling.extra_body))
    return msgspec.structs.replace(spec, name=redacted_text(spec.name), arms=arms, sampling=sampling)


def redactor_for(
    arms: Iterable[Arm],
    headers: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    sampling: Sampling | None = None,
) -> Redactor:
    """Hides the secrets of the `arms`, of the `headers` and the body sent to their servers, and of this process's
    `environment`, as far as they are long enough to be searched for."""
    found = header_secrets((headers or {}).values()) | secrets_of_environment(environment or {})
    found |= _secrets_of_json(sampling.extra_body if sampling else None)
    return Redactor.of(found.union(*map(_secrets_of_arm, arms)))


def _secrets_of_arm(arm: Arm) -> set[str]:
    """The secrets in the arm's arguments, variables and addresses, of any length."""
    found = _secrets_of_words(arm.args)
    found |= {value for name, value in arm.env.items() if is_secret_name(name)}
    found |= {part for value in (*arm.env.values(), arm.url, arm.path or "") for part in _secrets_of_text(value)}
    return found | (_secrets_of_line(arm.command) if isinstance(arm.command, str) else _secrets_of_words(arm.command))


def secrets_of_environment(environment: Mapping[str, str]) -> set[str]:
    """The long values of variables with secret names, and the names and passwords of proxies."""
    found = {
        value for name, value in environment.items() if is_secret_name(name) and len(value.strip()) >= LEAST_OF_OURS
    }
    return found | set(proxy_secrets(environment))


def _redacted_arm(arm: Arm) -> Arm:
    command = redacted_line(arm.command) if isinstance(arm.command, str) else tuple(redacted_words(arm.command))
    return msgspec.structs.replace(
        arm,
        args=tuple(redacted_words(arm.args)),
        env=redacted_env(arm.env),
        command=command,
        url=redacted_text(arm.url),
        path=None if arm.path is None else redacted_text(arm.path),
        request=_redacted_json(arm.request),
    )


def _redacted_json(value: Any) -> Any:
    """JSON of any shape; text under a secret name is redacted."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            name: MARK if isinstance(member, str) and is_secret_name(name) else _redacted_json(member)
            for name, member in members.items()
        }
    return [_redacted_json(member) for member in cast("list[Any]", value)] if isinstance(value, list) else value


def _secrets_of_words(words: Sequence[str]) -> set[str]:
    """The values that `redacted_words` replaces."""
    found: set[str] = set()
    for word, shown in zip(words, redacted_words(words), strict=True):
        if shown == MARK:
            found.add(word)
        elif shown != word:
            name, _, value = word.partition("=")
            found |= {value.strip("\"'")} if shown == f"{name}={MARK}" else _secrets_of_word(word)
    return found


def _secrets_of_word(word: str) -> set[str]:
    """The values that `_redacted_word` replaces, in a word or in a flag's value."""
    value = word.partition("=")[2] if word.startswith("-") else word
    found = _secrets_of_json(json_of(value)) | _secrets_of_text(value)
    return found | _secrets_of_line(value) if any(char.isspace() for char in value) else found


def _secrets_of_json(value: Any) -> set[str]:
    """The texts under secret names in JSON of any shape."""
    found: set[str] = set()
    if isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            found |= {member} if isinstance(member, str) and is_secret_name(name) else _secrets_of_json(member)
    if isinstance(value, list):
        found |= {text for member in cast("list[Any]", value) for text in _secrets_of_json(member)}
    return found


def _secrets_of_line(line: str) -> set[str]:
    """The values that `redacted_line` replaces."""
    found = _secret_parts(line)
    return found | {piece["value"].strip("\"'") for piece in _secrets_in_line(line)}


def _secrets_of_text(text: str) -> set[str]:
    """The values that `redacted_text` replaces."""
    header = _HEADER.match(text)
    if header and is_secret_name(header[1]):
        return {header[3], header[3].partition(" ")[2]} - {"", MARK}
    return _secret_parts(text)


def _secret_parts(text: str) -> set[str]:
    """The values that `_redacted_parts` replaces."""
    found: set[str] = set()
    for user in _USER.finditer(text):
        both = user[0].removeprefix("://").removesuffix("@")
        found |= {both, both.partition(":")[2]}
    found |= {query[3] for query in _QUERY.finditer(text) if is_secret_name(query[2])}
    found |= {scheme[3] for scheme in _SCHEME.finditer(text)}
    return found - {"", MARK}
