"""The demo world drawn: things, hands and motions as polygons, frames of pixels, and H.264 files of them."""
