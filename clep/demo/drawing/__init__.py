"""Drawn videos: objects, hands and motions as polygons, frames of pixels, and H.264 files of them."""
