"""A copy of a study without its texts: each word of prompts, answers and messages becomes another one.

Equal words stay equal; lengths, digits and punctuation stay as they are. So whatever compares, counts or
times answers gives the same results, and nobody can read them.
"""

import contextlib
import random
import re
import secrets
import sqlite3
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import msgspec
import yaml

from inferometer.base.errors import RequestWrong, StudyUnreadable
from inferometer.store.record_batches import COLUMNS, with_texts
from inferometer.store.schema import create_later_tables, table_names

MARK = "hidden_text"
"""Key in the table `meta` of a study whose texts are hidden."""
NOTE = "The words of prompts and answers are hidden: others of the same lengths are in their place."

_WORD = re.compile(r"[^\W\d_]+")
_KEPT = ("Error", "Exception")
"""Words with these ends stay: they are the kinds of failures in the reasons of failed checks."""

_LONGEST_WORD = 40
"""Letters; a longer one is an answer that repeats letters, and goes on doing so."""


def hide(database: Path) -> None:
    """Hides the texts of the database of a study. Raises StudyUnreadable."""
    hidden = _hider()
    try:
        with contextlib.closing(sqlite3.connect(database)) as study:
            study.create_function("hidden", 1, hidden, deterministic=True)
            create_later_tables(study)
            if "record" in table_names(study):  # of an earlier version
                study.execute("UPDATE record SET event_text = hidden(event_text), error = hidden(error)")
            _hide_batches(study, hidden)
            study.execute("UPDATE trial SET error = hidden(error)")
            study.execute("UPDATE answer_check SET reason = hidden(reason) WHERE result != 'no_toolchain'")
            rows = study.execute("SELECT arm, request_id, tokens FROM continuation").fetchall()
            study.executemany(
                "UPDATE continuation SET tokens = ? WHERE arm = ? AND request_id = ?",
                [(_hidden_tokens(tokens, hidden), arm, name) for arm, name, tokens in rows],
            )
            _change_meta(study, "plan", lambda plan: _hide_prompts(plan, hidden))
            study.execute("INSERT OR IGNORE INTO meta VALUES ('notes', '[]')")
            _change_meta(study, "notes", lambda notes: [*notes, NOTE])
            study.execute("INSERT OR REPLACE INTO meta VALUES (?, 'true')", (MARK,))
            study.commit()
            study.execute("VACUUM")  # the former texts are in pages that are free now
    except (sqlite3.Error, ValueError, msgspec.MsgspecError, zlib.error) as error:
        raise StudyUnreadable(f"the texts of {database} cannot be hidden: {error}") from error


def hidden_yaml(text: str) -> str:
    """The study file without prompts that stand in it."""
    study: dict[str, Any] = yaml.safe_load(text)
    workload: dict[str, Any] = study.get("workload") or {}
    if "prompts" not in workload:
        return text
    workload["prompts"] = list(map(_hider(), workload["prompts"]))
    return yaml.safe_dump(study, allow_unicode=True, sort_keys=False)


def require_texts(database: sqlite3.Connection, folder: Path) -> None:
    """Raises RequestWrong for a study whose texts are hidden."""
    if database.execute("SELECT 1 FROM meta WHERE key = ?", (MARK,)).fetchone():
        raise RequestWrong(
            f"{folder} was exported with --hide-text: its prompts and answers cannot be used again. Name the study "
            "that it was made from."
        )


def _hider() -> Callable[[str], str]:
    """Replaces words. Each letter becomes another one that depends on those before it in the word, so that words that
    begin alike do so afterwards. The key is forgotten, so that nobody can try words."""
    key = secrets.token_hex(16)

    @lru_cache(maxsize=100_000)
    def alphabet(before: str) -> str:
        return "".join(random.Random(key + before).sample(ascii_lowercase, 26))

    @lru_cache(maxsize=100_000)
    def other(word: str) -> str:
        is_word = len(word) <= _LONGEST_WORD
        letters = (alphabet(word[:place] if is_word else "")[_number(letter)] for place, letter in enumerate(word))
        return "".join(new.upper() if old.isupper() else new for old, new in zip(word, letters, strict=True))

    return lambda text: _WORD.sub(lambda found: found[0] if found[0].endswith(_KEPT) else other(found[0]), text)


def _number(letter: str) -> int:
    place = ascii_lowercase.find(letter.lower())
    return place if place >= 0 else ord(letter) % 26


def _change_meta(study: sqlite3.Connection, key: str, change: Callable[[Any], object]) -> None:
    row = study.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is not None:
        changed = msgspec.json.encode(change(msgspec.json.decode(row[0]))).decode()
        study.execute("UPDATE meta SET value = ? WHERE key = ?", (changed, key))


def _hide_batches(study: sqlite3.Connection, hidden: Callable[[str], str]) -> None:
    names = COLUMNS.split(", ")
    for (number,) in study.execute("SELECT id FROM batch").fetchall():
        row = study.execute(f"SELECT {COLUMNS} FROM batch WHERE id = ?", (number,)).fetchone()
        changed = ", ".join(f"{name} = ?" for name in names)
        study.execute(f"UPDATE batch SET {changed} WHERE id = ?", (*with_texts(row, hidden), number))


def _hide_prompts(plan: Any, hidden: Callable[[str], str]) -> object:
    for item in plan["items"]:
        for message in item["request"]["messages"]:
            message["content"] = hidden(message["content"])
    return plan


def _hidden_tokens(packed: bytes, hidden: Callable[[str], str]) -> bytes:
    """The tokens of an answer of the fidelity pass: `core.continuation.TokenChoice` as JSON."""
    tokens = [
        [hidden(token), *([[hidden(name), value] for name, value in top] for top in others)]
        for token, *others in msgspec.json.decode(zlib.decompress(packed))
    ]
    return zlib.compress(msgspec.json.encode(tokens))
