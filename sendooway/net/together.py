"""Several waits at the same time, for those who have no other connection to serve meanwhile."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

Result = TypeVar("Result")

MAX_AT_ONCE = 32


def together(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """What the calls return, in their order; each is made in a thread of its own.

    Raises what the first one raises that fails. The others go on then, unheard; they do not keep the process from its
    end, and nor do they when ^C ends the wait.
    """
    places = Semaphore(MAX_AT_ONCE)
    done: SimpleQueue[tuple[int, Result | None, BaseException | None]] = SimpleQueue()

    def make(number: int, call: Callable[[], Result]) -> None:
        with places:
            try:
                done.put((number, call(), None))
            except BaseException as error:
                done.put((number, None, error))

    for number, call in enumerate(calls):
        Thread(target=make, args=(number, call), daemon=True).start()
    results: dict[int, Result] = {}
    for _ in calls:
        number, result, error = done.get()
        if error is not None:
            raise error
        results[number] = result  # type: ignore[assignment]
    return [results[number] for number in range(len(calls))]
