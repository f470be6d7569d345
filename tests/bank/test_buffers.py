from concurrent.futures import ThreadPoolExecutor

import torch

from clep.bank.buffers import Buffers

ROWS, DIM = 600, 512  # 1.2 MB


def test_memory_is_used_again_once_nobody_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.take(ROWS, DIM)
    address = first.data_ptr()
    del first
    assert buffers.take(ROWS - 7, DIM).data_ptr() == address


def test_memory_in_use_is_not_given_out() -> None:
    buffers = Buffers()
    views = [buffers.take(ROWS, DIM).fill_(number)[3:, 2:5] for number in range(9)]  # more than are kept
    kept = [buffers.take(ROWS, DIM).fill_(-1).T.unflatten(1, (2, -1)) for _ in range(3)]
    assert [float(view.mean()) for view in views] == list(range(9))
    assert all(bool((view == -1).all()) for view in kept)
    assert len({tensor.untyped_storage().data_ptr() for tensor in views + kept}) == 12


def test_an_array_or_a_graph_keeps_the_memory() -> None:
    buffers = Buffers()
    array = buffers.take(ROWS, DIM).fill_(1).numpy()
    weight = torch.ones(DIM, 1, requires_grad=True)
    product = buffers.take(ROWS, DIM).fill_(2) @ weight
    buffers.take(ROWS, DIM).fill_(3)
    product.sum().backward()
    assert (array == 1).all()
    assert weight.grad is not None
    assert (weight.grad == 2 * ROWS).all()


def test_a_tensor_has_no_more_memory_than_it_needs() -> None:
    buffers = Buffers()
    buffers.take(ROWS, DIM)
    assert buffers.take(ROWS // 2, DIM).untyped_storage().nbytes() == ROWS // 2 * DIM * 4  # workers send all of it


def test_few_arrays_are_kept() -> None:
    buffers = Buffers()
    held = [buffers.take(ROWS, DIM) for _ in range(6)]
    addresses = [tensor.data_ptr() for tensor in held]
    while held:
        held.pop(0)
    again = [buffers.take(ROWS, DIM) for _ in range(4)]
    assert [tensor.data_ptr() for tensor in again] == addresses[2:]


def test_batches_of_different_sizes_have_memory_of_their_size() -> None:
    buffers = Buffers()
    windows, contexts = set(), set()
    for _ in range(5):
        window, context = buffers.take(ROWS, DIM), buffers.take(9 * ROWS, DIM)
        windows.add(window.data_ptr())
        contexts.add(context.data_ptr())
        del context, window
    assert len(windows) == len(contexts) == 1


def test_memory_that_is_too_small_or_far_too_large_is_not_used() -> None:
    buffers = Buffers()
    address = buffers.take(3 * ROWS, DIM).data_ptr()
    assert buffers.take(ROWS, DIM).data_ptr() != address
    assert buffers.take(6 * ROWS, DIM).data_ptr() != address
    assert buffers.take(3 * ROWS, DIM).data_ptr() == address


def test_threads_never_share_memory() -> None:
    buffers = Buffers()

    def fill(number: int) -> bool:
        tensor = buffers.take(ROWS, DIM).fill_(number)
        return all(bool((tensor == number).all()) for _ in range(5))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(fill, range(200)))
