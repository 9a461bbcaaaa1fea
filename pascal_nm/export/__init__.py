"""Spiking graphs as files: NIR writing and reading."""

from pascal_nm.export.nir_format import from_nir, read_nir, to_nir, write_nir

__all__ = ["from_nir", "read_nir", "to_nir", "write_nir"]
