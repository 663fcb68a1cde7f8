"""The same function for many items, a bounded number at a time."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Literal, TypeVar, overload

from ..._concurrency.aio.colour import invoke, iterate
from ..._concurrency.aio.streams import create_memory_object_stream
from ..._concurrency.aio.tasks import create_task_group
from ..._config import check_count

T = TypeVar("T")
R = TypeVar("R")


@overload
async def parallel_requests(
    fetch: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    max_concurrency: int = 10,
    *,
    return_exceptions: Literal[False] = False,
) -> list[R]: ...
@overload
async def parallel_requests(
    fetch: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    max_concurrency: int = 10,
    *,
    return_exceptions: bool,
) -> list[R | Exception]: ...
async def parallel_requests(
    fetch: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    max_concurrency: int = 10,
    *,
    return_exceptions: bool = False,
) -> list[R] | list[R | Exception]:
    """Call a function for each item, several at a time, and give the results in the order of the items.

    The first failure cancels the calls that are under way, and is raised as it is. The items are read by the
    caller's own task or thread, one ahead of the calls at most, so they may be endless as long as a call ends it all.
    For requests over HTTP there is more in `batch_request` of the clients: retries, deadlines, an outcome for each.

    Args:
        fetch: Called with one item.
        items: Whatever can be iterated over.
        max_concurrency: The most calls at once.
        return_exceptions: Put the exceptions of calls among the results, and go on.

    Returns:
        One result for each item.

    Raises:
        ConfigurationError: An argument is wrong, or `fetch` is a function of the other colour.
        Exception: That of the first call that failed, or of the items themselves.

    Example:
        ```python
        pages = await parallel_requests(fetch, ["/a", "/b", "/c"], max_concurrency=2)
        ```
    """
    check_count(max_concurrency, "max_concurrency")
    source = iterate(items)
    results: dict[int, R | Exception] = {}
    failures: list[Exception] = []
    count = 0
    send, receive = create_memory_object_stream[tuple[int, T]](0)
    with receive:
        async with create_task_group() as group:

            async def work() -> None:
                async for index, item in receive:
                    try:
                        results[index] = await invoke(fetch, item)
                    except Exception as exc:
                        if return_exceptions:
                            results[index] = exc
                            continue
                        # Not raised here: it would leave in an exception group.
                        failures.append(exc)
                        group.cancel_scope.cancel()
                        return

            with send:
                try:
                    async for item in source:
                        if count < max_concurrency:
                            await group.start_soon(work)
                        await send.send((count, item))
                        count += 1
                except Exception as exc:
                    failures.append(exc)
                    group.cancel_scope.cancel()
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # its traceback refers to this frame
    return [results[index] for index in range(count)]
