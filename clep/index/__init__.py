"""Index of the moments of a bank: embeddings of its windows in a mapped file, searched exactly or by faiss."""

from clep.index.grid import MomentGrid
from clep.index.moment_index import IndexSettings, MomentIndex, index_path
from clep.index.probes import PROBE_SENTENCES

__all__ = ["PROBE_SENTENCES", "IndexSettings", "MomentGrid", "MomentIndex", "index_path"]
