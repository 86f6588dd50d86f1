"""Embeddings of stretches of long recordings, kept until their shard is done: a kill costs a stretch, not hours."""

import io

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import RunFolder

Float32 = npt.NDArray[np.float32]


class StretchRows:
    """What a shard of speech has embedded so far, under the digest that its mark will have."""

    def __init__(self, folder: RunFolder, shard: str, digest: str) -> None:
        self._folder = folder.stretches(shard)
        self._digest = digest

    def get(self, recording: str, lang: str, spans: npt.NDArray[np.int64]) -> Float32 | None:
        """Rows (num_spans, dim) of spans (num_spans, 2) of a recording; None where they are not there, or damaged."""
        uri = self._uri(recording, lang, spans)
        try:
            if not storage.exists(uri):
                return None
            rows = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
        except (OSError, ValueError, EOFError, StorageError):
            return None
        fits = rows.dtype == np.float32 and rows.ndim == 2 and len(rows) == len(spans)
        return rows if fits else None

    def put(self, recording: str, lang: str, spans: npt.NDArray[np.int64], rows: Float32) -> None:
        """Keep rows for another start of this shard."""
        buffer = io.BytesIO()
        np.save(buffer, rows.astype(np.float32, copy=False), allow_pickle=False)
        storage.write_bytes_atomic(self._uri(recording, lang, spans), buffer.getvalue())

    def _uri(self, recording: str, lang: str, spans: npt.NDArray[np.int64]) -> str:
        first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
        return storage.join(self._folder, f"{self._digest}.{recording}.{lang}.{first}-{last}.npy")
