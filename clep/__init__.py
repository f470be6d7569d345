"""clep: contrastive language–egocentric-video pre-training on banks of frozen features."""

__version__ = "0.1.0"
