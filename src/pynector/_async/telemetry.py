"""Traced blocks of an application's own: operations, calls at the same time, task groups."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Literal, TypeVar, overload

from .._concurrency.aio.colour import ColourGuard, invoke, settle
from .._concurrency.aio.tasks import TaskGroup, create_task_group
from .._telemetry.calls import check_calls, discard
from .._telemetry.spans import Attribute, CurrentSpan, NoSpan, Span
from .._telemetry.tracers import Tracer

T = TypeVar("T")


class AsyncTracedOperation(ColourGuard):
    """An operation with a span of its own. Get one from `traced_async_operation`."""

    __slots__ = ("_block",)

    def __init__(self, block: CurrentSpan | NoSpan) -> None:
        self._block = block

    async def __aenter__(self) -> Span:
        return self._block.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._block.__exit__(exc_type, exc, traceback)


class AsyncTracedTaskGroup(ColourGuard):
    """A task group with a span around it. Get one from `traced_task_group`."""

    __slots__ = ("_block", "_group")

    def __init__(self, block: CurrentSpan | NoSpan) -> None:
        self._block = block
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> TaskGroup:
        self._block.__enter__()
        try:
            self._group = create_task_group()
            return await self._group.__aenter__()
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        group = self._group
        if group is None:
            raise RuntimeError("This task group is not active")
        try:
            swallowed = await group.__aexit__(exc_type, exc, traceback)
        except BaseException as error:
            # What leaves the group is not always what came to it.
            self._block.__exit__(type(error), error, error.__traceback__)
            raise
        if swallowed:
            exc_type = exc = traceback = None
        self._block.__exit__(exc_type, exc, traceback)
        return swallowed


def traced_async_operation(
    tracer: Tracer, name: str, attributes: Mapping[str, Attribute] | None = None
) -> AsyncTracedOperation:
    """Give an operation a span that is current inside of the block, and ends with it.

    An exception that leaves the block is recorded, and makes the status `error`; a cancellation does not.

    Args:
        tracer: What makes the span.
        name: What is done, the same for all of its kind.
        attributes: What is known of it already.

    Returns:
        The block; it gives the span.

    Example:
        ```python
        async with traced_async_operation(tracer, "load_user", {"user.id": 7}) as span:
            user = await load(7)
            span.set_attribute("user.found", user is not None)
        ```
    """
    return AsyncTracedOperation(tracer.start_as_current_span(name, attributes=attributes))


def traced_task_group(
    tracer: Tracer, name: str, attributes: Mapping[str, Attribute] | None = None
) -> AsyncTracedTaskGroup:
    """Make a task group with a span around it: what its tasks trace is below that span.

    Args:
        tracer: What makes the span.
        name: What the group does, the same for all of its kind.
        attributes: What is known of it already.

    Returns:
        The block; it gives the task group.

    Example:
        ```python
        async with traced_task_group(tracer, "refresh") as tg:
            await tg.start_soon(refresh, "users")
            await tg.start_soon(refresh, "orders")
        ```
    """
    return AsyncTracedTaskGroup(tracer.start_as_current_span(name, attributes=attributes))


@overload
async def traced_gather(
    tracer: Tracer,
    calls: Iterable[Callable[[], Awaitable[T]] | Awaitable[T]],
    name: str = "gather",
    *,
    return_exceptions: Literal[False] = False,
    attributes: Mapping[str, Attribute] | None = None,
) -> list[T]: ...
@overload
async def traced_gather(
    tracer: Tracer,
    calls: Iterable[Callable[[], Awaitable[T]] | Awaitable[T]],
    name: str = "gather",
    *,
    return_exceptions: bool,
    attributes: Mapping[str, Attribute] | None = None,
) -> list[T | Exception]: ...
async def traced_gather(
    tracer: Tracer,
    calls: Iterable[Callable[[], Awaitable[T]] | Awaitable[T]],
    name: str = "gather",
    *,
    return_exceptions: bool = False,
    attributes: Mapping[str, Attribute] | None = None,
) -> list[T] | list[T | Exception]:
    """Make several calls at the same time below one span, and give their results in order.

    The first failure cancels the calls that are under way, and is raised as it is. All calls run at once: for many of
    them there are `parallel_requests` and the batches of the clients, which bound that.

    Args:
        tracer: What makes the span.
        calls: Functions without arguments, or what is to be waited for.
        name: What the calls do together, the same for all of its kind.
        return_exceptions: Put the exceptions of calls among the results, and go on.
        attributes: What is known of it already.

    Returns:
        One result for each call.

    Raises:
        ConfigurationError: One of `calls` can't be called.
        Exception: That of the first call that failed.

    Example:
        ```python
        users = await traced_gather(tracer, [load_ada, load_grace], name="load_users")
        ```
    """
    waiting = check_calls(calls)
    results: dict[int, T | Exception] = {}
    failures: list[Exception] = []
    try:
        with tracer.start_as_current_span(name, attributes=attributes) as span:
            span.set_attribute("pynector.gather.calls", len(waiting))
            async with create_task_group() as group:

                async def work(index: int, call: Callable[[], Awaitable[T]] | Awaitable[T]) -> None:
                    try:
                        results[index] = await _made(call)
                    except Exception as exc:
                        if return_exceptions:
                            results[index] = exc
                            return
                        # Not raised here: it would leave in an exception group.
                        failures.append(exc)
                        group.cancel_scope.cancel()

                for index, call in enumerate(waiting):
                    await group.start_soon(work, index, call)
            if failures:
                try:
                    raise failures[0]
                finally:
                    failures.clear()  # its traceback refers to this frame
    finally:
        discard(waiting)
    return [results[index] for index in range(len(waiting))]


async def _made(call: Callable[[], Awaitable[T]] | Awaitable[T]) -> T:
    if callable(call):
        return await invoke(call)  # pyright: ignore[reportReturnType] # what can be called is no T
    return await settle(call)
