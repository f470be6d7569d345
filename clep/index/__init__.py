"""Index of the moments of a bank: embeddings of its windows in a mapped file, searched exactly or by faiss."""

from clep.index.grid import MomentGrid
from clep.index.moment_index import IndexSettings, MomentIndex, index_path
from clep.index.recall_sentences import RECALL_SENTENCES

__all__ = ["RECALL_SENTENCES", "IndexSettings", "MomentGrid", "MomentIndex", "index_path"]
