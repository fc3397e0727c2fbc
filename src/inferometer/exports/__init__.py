"""Exports: studies in the formats of other programs. Each module writes one form; `output_files` chooses.

May import everything below `cli`. Only `export_files` and `parquet` write files.
"""

from inferometer.exports.export_files import OutputFile, output_files
from inferometer.exports.formats import FORMATS, TABLES, ExportRequest, TableName, format_named

__all__ = ["FORMATS", "TABLES", "ExportRequest", "OutputFile", "TableName", "format_named", "output_files"]
