# SPDX-License-Identifier: Apache-2.0
"""An answer on its way: made on a thread of its own, waited for in whatever way the caller likes.

    text = await response                   # asyncio; also asyncio.run(response), create_task, wait_for, gather
    async for piece in response: ...        # asyncio, streaming
    text = response.result()                # without asyncio; str(response) for a text
    for piece in response: ...              # without asyncio, streaming

Whoever stops waiting stops the work: a cancelled task, KeyboardInterrupt, an iteration that is left early."""
from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import time
from types import TracebackType
from typing import (Any, AsyncIterator, Callable, Coroutine, Generator, Generic, Iterator, List, Optional, Set, Type,
                    TypeVar, Union)

from .errors import GenerationCancelledError

P = TypeVar("P")  # a piece
R = TypeVar("R")  # the whole

_running: Set["Pending[Any, Any]"] = set()


def _stop_all() -> None:
    """No thread may be inside the library while the interpreter goes away."""
    for pending in list(_running):
        pending.cancel()
    for pending in list(_running):
        pending.join()


atexit.register(_stop_all)


class Pending(Coroutine[Any, Any, R], Generic[P, R]):
    """`work` runs at once, on a thread, and is given this object: it calls emit() for each piece and returns the whole.
    Inside allow_cancel() it is told by a call that it should stop; emit() returning False says the same."""

    def __init__(self, work: Callable[["Pending[P, R]"], R]) -> None:
        self._work = work
        self._lock = threading.RLock()
        self._pieces: List[P] = []
        self._value: Optional[R] = None
        self._error: Optional[BaseException] = None
        self._ended = self._cancelled = False
        self._stop: Optional[Callable[[], None]] = None
        self._wakers: List[Callable[[], None]] = []
        self._inner: Optional[Coroutine[Any, Any, R]] = None
        self._thread = threading.Thread(target=self._run, name="whisperengine", daemon=True)
        _running.add(self)
        self._thread.start()

    # ---- The working thread's side ----

    def _run(self) -> None:
        try:
            self._value = self._work(self)
        except BaseException as e:
            self._error = e
        finally:
            del self._work  # and what it holds
            _running.discard(self)
            with self._lock:
                self._ended = True
                self._wake()

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def emit(self, piece: P) -> bool:
        with self._lock:
            self._pieces.append(piece)
            self._wake()
            return not self._cancelled

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def check_cancelled(self) -> None:
        if self._cancelled:
            raise GenerationCancelledError("the answer was cancelled before it was complete")

    def allow_cancel(self, stop: Optional[Callable[[], None]]) -> None:
        """From now on cancel() calls `stop`, from any thread; None: no more. When this returns, no call of it is running."""
        with self._lock:
            self._stop = stop
        if stop:
            self.check_cancelled()

    # ---- The caller's side ----

    def done(self) -> bool:
        return self._ended

    def cancel(self) -> bool:
        """Stop soon; result() then raises GenerationCancelledError. False: it had ended already."""
        with self._lock:
            if self._ended:
                return False
            self._cancelled = True
            if self._stop:
                self._stop()
            return True

    def join(self) -> None:
        self._thread.join()

    def _outcome(self) -> R:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def result(self, timeout: Optional[float] = None) -> R:
        """Wait for the whole. After `timeout` seconds: TimeoutError, and it goes on."""
        try:
            self._wait(sys.maxsize, timeout)
        except BaseException:  # KeyboardInterrupt: the engine is free again when the caller hears of it
            self.cancel()
            self.join()
            raise
        if not self._ended:
            raise TimeoutError(f"no complete answer within {timeout} seconds")
        return self._outcome()

    def _wait(self, have: int, timeout: Optional[float] = None) -> None:
        """Until there are more than `have` pieces, the end, or `timeout` seconds have passed. Takes no lock that the working thread
        takes, as a condition variable would: KeyboardInterrupt may come before it is given back."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._ended and have >= len(self._pieces):
            gate = threading.Lock()
            gate.acquire()
            self._wakers.append(gate.release)
            if self._ended or have < len(self._pieces):  # that came before anybody could have opened the gate
                return
            if not gate.acquire(timeout=-1 if until is None else max(until - time.monotonic(), 0)):
                return

    def __str__(self) -> str:
        return str(self.result())

    def __repr__(self) -> str:
        state = "ended" if self._ended else "cancelled" if self._cancelled else "running"
        return f"<{type(self).__name__} {state}, {len(self._pieces)} pieces>"

    def __iter__(self) -> Iterator[P]:
        n = 0
        try:
            while True:
                self._wait(n)
                fresh = self._pieces[n:]
                if not fresh:
                    break
                yield from fresh
                n += len(fresh)
        except BaseException:  # left early
            self.cancel()
            self.join()
            raise
        self._outcome()

    # ---- asyncio ----

    async def _next_change(self, have: int) -> None:
        """Until there are more than `have` pieces, or the end (have < 0: the end)."""
        loop = asyncio.get_running_loop()

        def settle(future: "asyncio.Future[None]") -> None:
            if not future.done():
                future.set_result(None)

        while True:
            with self._lock:
                if self._ended or 0 <= have < len(self._pieces):
                    return
                future: "asyncio.Future[None]" = loop.create_future()

                def wake() -> None:
                    try:
                        loop.call_soon_threadsafe(settle, future)
                    except RuntimeError:  # that loop is closed: nobody waits there any more
                        pass

                self._wakers.append(wake)
            await future

    async def _whole(self) -> R:
        try:
            await self._next_change(-1)
        except BaseException:  # the task was cancelled
            self.cancel()
            raise
        return self._outcome()

    def __await__(self) -> Generator[Any, Any, R]:
        return self._whole().__await__()

    async def __aiter__(self) -> AsyncIterator[P]:
        n = 0
        try:
            while True:
                await self._next_change(n)
                fresh = self._pieces[n:]
                if not fresh:
                    break
                for piece in fresh:
                    yield piece
                n += len(fresh)
        except BaseException:
            self.cancel()
            raise
        self._outcome()

    # As a coroutine object, which asyncio.run() and create_task() want.

    def _coroutine(self) -> Coroutine[Any, Any, R]:
        if self._inner is None:
            self._inner = self._whole()
        return self._inner

    def send(self, value: Any) -> Any:
        return self._coroutine().send(value)

    def throw(self, typ: Union[Type[BaseException], BaseException], val: Union[BaseException, object, None] = None,
              tb: Optional[TracebackType] = None) -> Any:
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        if self._inner is None:  # before its first step: there is nothing yet that could hear of it
            self.cancel()
            raise error
        return self._inner.throw(error)

    def close(self) -> None:
        if self._inner is None:
            self.cancel()
        else:
            self._inner.close()
