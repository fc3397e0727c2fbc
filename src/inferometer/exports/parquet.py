"""Tables as Parquet, written by pyarrow with a row group for each batch."""

import importlib
from pathlib import Path
from typing import Any

from inferometer.base.errors import RequestWrong
from inferometer.exports.export_columns import ExportTable


def require_pyarrow() -> None:
    """Raises RequestWrong if pyarrow is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise RequestWrong(
            "Parquet needs pyarrow, which is not installed: pip install 'inferometer[parquet]'. Or use --to csv."
        ) from error


def write_parquet(table: ExportTable, path: Path) -> None:
    """Write the table; each column's description is in its field's metadata (key `says`)."""
    arrow: Any = importlib.import_module("pyarrow")  # an extra: its types exist only if it is installed
    parquet: Any = importlib.import_module("pyarrow.parquet")
    kinds = {"text": arrow.string(), "int": arrow.int64(), "float": arrow.float64(), "bool": arrow.bool_()}
    schema = arrow.schema(
        [
            arrow.field(column.name, kinds[column.kind], metadata={"says": column.description})
            for column in table.columns
        ]
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in table.batches:
            columns = [arrow.array(values, field.type) for values, field in zip(batch, schema, strict=True)]
            writer.write_batch(arrow.record_batch(columns, schema=schema))
