"""Read and write shapes by extension; one file a family of formats.

Own readers for OFF, OBJ, PLY, STL, PCD, text and NumPy files (small, exact in float64, and every refusal
names the file, line and count); trimesh for GLB, glTF and 3MF; laspy and pye57 for laser scans. Whatever is
wrong with a file is a `ReadError`, a `ValueError`, or an `OSError`.
"""

from .blocks import Block, Blocks, blocks_of
from .errors import ReadError, WriteError
from .reading import READABLE, read
from .shapes import as_colors, known_colors
from .writing import CLOUD_WRITABLE, COLORED, WRITABLE, check_writable, write, write_content

__all__ = [
    "CLOUD_WRITABLE",
    "COLORED",
    "READABLE",
    "WRITABLE",
    "Block",
    "Blocks",
    "ReadError",
    "WriteError",
    "as_colors",
    "blocks_of",
    "check_writable",
    "known_colors",
    "read",
    "write",
    "write_content",
]
