"""Study folders: study.yaml (the resolved spec), study.db (SQLite), logs/ and summary.md.

Everything about a study's files lives here: schema, writing, reading, older formats, damaged files, locks and zips.
"""

from inferometer.store.schema import FORMAT_VERSION
from inferometer.store.study_reader import StudyReader
from inferometer.store.study_store import Store
from inferometer.store.study_yaml import stored_spec, study_text

__all__ = ["FORMAT_VERSION", "Store", "StudyReader", "stored_spec", "study_text"]
