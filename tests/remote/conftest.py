from tests.remote.stores import hub, memory, own_cache

__all__ = ["hub", "memory", "own_cache"]
