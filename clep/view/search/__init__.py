"""The search page: a local server that finds moments by sentences and plays them."""

from clep.view.search.engine import SearchEngine
from clep.view.search.server import create_app, serve
from clep.view.search.videos import VideoFiles

__all__ = ["SearchEngine", "VideoFiles", "create_app", "serve"]
