"""The public module: what `pynector.concurrency` and its blocking twin give, used as their users do."""

from pynector.concurrency import create_task_group, sleep


async def test_the_example_of_the_first_page():
    seen = []

    async def task1() -> None:
        seen.append("Task 1 started")
        await sleep(0.05)
        seen.append("Task 1 completed")

    async def task2() -> None:
        seen.append("Task 2 started")
        await sleep(0.15)
        seen.append("Task 2 completed")

    async with create_task_group() as tg:
        await tg.start_soon(task1)
        await tg.start_soon(task2)
        seen.append("All tasks started")
    seen.append("All tasks completed")

    assert sorted(seen[:3]) == ["All tasks started", "Task 1 started", "Task 2 started"]
    assert seen[3:] == ["Task 1 completed", "Task 2 completed", "All tasks completed"]
