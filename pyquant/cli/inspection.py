"""``pyquant inspect``: the tensors of a checkpoint, without reading their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyquant.checkpoint.source import Part, opened
from pyquant.checkpoint.tensors import shape_text
from pyquant.cli.console import bytes_text, json_text, print_table


def run(path: Path, as_json: bool) -> None:
    """Print the tensors of the checkpoint `path`."""
    with opened(path) as source:
        tensors = [_entry(part, name) for name, part in source.where().items()]
        metadata = [part.file.metadata for part in source.parts if part.file.metadata]
    total = sum(entry["bytes"] for entry in tensors)
    if as_json:
        tree = {"file": str(path), "bytes": total, "metadata": metadata, "tensors": tensors}
        print(json_text(tree))
        return
    rows = [
        (
            entry["name"],
            entry["dtype"],
            shape_text(entry["shape"]),
            bytes_text(entry["bytes"]),
            _how(entry),
        )
        for entry in tensors
    ]
    print_table(("tensor", "dtype", "shape", "size", "quantized"), rows)
    print(f"{path}: {len(tensors)} tensors, {bytes_text(total)}")


def _entry(part: Part, name: str) -> dict[str, Any]:
    specs = part.specs(name)
    entry: dict[str, Any] = {
        "name": name,
        "dtype": specs[0].dtype,
        "shape": list(specs[0].shape),
        "bytes": sum(spec.nbytes for spec in specs),
        "quantized": None,
    }
    if name in part.records:
        record = part.records[name]
        entry |= {"dtype": record.dtype, "shape": list(record.shape)}
        entry["quantized"] = {
            "source_dtype": record.source_dtype,
            "axis": record.axis,
            "block_size": record.block_size,
            "narrow_range": record.narrow_range,
            "packed": record.packed,
            "zero_point": len(specs) > 2,
        }
    return entry


def _how(entry: dict[str, Any]) -> str:
    quantized = entry["quantized"]
    if quantized is None:
        return ""
    words = [f"from {quantized['source_dtype']}"]
    if quantized["axis"] is None:
        words.append("per tensor")
    elif quantized["block_size"] is None:
        words.append(f"axis {quantized['axis']}")
    else:
        words.append(f"axis {quantized['axis']} in blocks of {quantized['block_size']}")
    words += ["zero points"] if quantized["zero_point"] else []
    words += ["packed"] if quantized["packed"] else []
    return ", ".join(words)
