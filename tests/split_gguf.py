"""Writes a model in two parts, as llama.cpp's gguf-split does."""

from __future__ import annotations

from pathlib import Path

import gguf


def split(source: Path, folder: Path, in_first: int = 0, name: str = "m-Q8_0") -> Path:
    """The first part of two; it has so many of the tensors. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)
    paths = [folder / f"{name}-0000{i}-of-00002.gguf" for i in (1, 2)]
    for number, path in enumerate(paths):
        writer = gguf.GGUFWriter(path, "llama" if number == 0 else "")
        if number == 0:
            for field in reader.fields.values():
                if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                    kind = field.types[0]
                    inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
                    writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[:in_first] if number == 0 else reader.tensors[in_first:]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths[0]
