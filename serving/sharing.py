"""One value in a file that many processes hold at once: its arrays are mapped, not copied.

The arrays of a value are pickled apart from it (protocol 5, PEP 574) and laid one after the other
in a file. Whoever opens the file gets the value with arrays that are the file's pages: the system
holds them once, however many processes look at them. The file lives as long as the job that wrote
it and is read by its own workers; nothing of it goes into a model or a release.
"""

from __future__ import annotations

import mmap
import pickle  # between a job and its own workers only: see above
import struct
from pathlib import Path
from typing import Any, BinaryIO

HEAD = struct.Struct("<Q")
ALIGNED = 64  # bytes: what vector instructions like


def share(value: Any, path: Path) -> None:
    """Write a value so that `shared` maps it; arrays that are not contiguous are copied."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for count in (len(rest), len(views), *(view.nbytes for view in views)):
            file.write(HEAD.pack(count))
        file.write(rest)
        for view in views:
            _align(file)
            file.write(view)


def shared(path: Path) -> Any:
    """Open what `share` wrote; a write to an array changes the pages of this process alone."""
    with path.open("rb") as file:
        pages = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    n_rest, n_arrays = (HEAD.unpack_from(pages, HEAD.size * at)[0] for at in (0, 1))
    sizes = [HEAD.unpack_from(pages, HEAD.size * (2 + at))[0] for at in range(n_arrays)]
    at = HEAD.size * (2 + n_arrays)
    rest, at, arrays = pages[at : at + n_rest], at + n_rest, []
    for size in sizes:
        at += -at % ALIGNED
        arrays.append(pages[at : at + size])
        at += size
    return pickle.loads(rest, buffers=arrays)


def _align(file: BinaryIO) -> None:
    file.write(b"\0" * (-file.tell() % ALIGNED))
