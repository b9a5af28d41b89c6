# SPDX-License-Identifier: Apache-2.0
"""Answers in asyncio: awaited, iterated, several at once, cancelled."""
import asyncio
import unittest

import helpers
from whisperengine import errors


class Asyncio(helpers.PackageTest):
    def run_async(self, coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, helpers.TIMEOUT_S))

    def test_await_and_run(self):
        backend = self.backend()

        async def main():
            return await backend.generate_response_async("x")

        self.assertEqual(self.run_async(main()), "Hello, world!")
        self.assertEqual(asyncio.run(backend.generate_response_async("x")), "Hello, world!")

    def test_streaming_and_the_whole(self):
        backend = self.backend(pieces=("aa", "bb", "cc"))

        async def main():
            response = backend.generate_response_async("x")
            pieces = [piece async for piece in response]
            return pieces, await response, await response

        self.assertEqual(self.run_async(main()), (["aa", "bb", "cc"], "aabbcc", "aabbcc"))

    def test_several_at_once_while_the_loop_goes_on(self):
        backend = self.backend()

        async def main():
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            answers = await asyncio.gather(*[backend.generate_response_async("x") for _ in range(8)])
            counting.cancel()
            return answers, turns

        answers, turns = self.run_async(main())
        self.assertEqual(answers, ["Hello, world!"] * 8)
        self.assertGreater(turns, 1)

    def test_errors_arrive_at_the_await(self):
        backend = self.backend()

        async def main():
            response = backend.generate_response_async("x", temperature=-1.0)
            with self.assertRaises(errors.OutOfRangeError):
                await response
            with self.assertRaises(errors.OutOfRangeError):
                async for _ in response:
                    pass

        self.run_async(main())

    def cancelled(self, backend, response):
        response.join()
        with self.assertRaises(errors.GenerationCancelledError):
            response.result()
        self.assertEqual(backend.generate_response("x", max_tokens=1), "tick ")

    def test_a_cancelled_task_stops_the_engine(self):
        backend = self.backend(pieces=("tick ",), loop=True)

        async def main():
            response = backend.generate_response_async("x")
            task = asyncio.create_task(response)
            async for _ in response:  # it runs
                task.cancel()
                break
            with self.assertRaises(asyncio.CancelledError):
                await task
            return response

        self.cancelled(backend, self.run_async(main()))

    def test_a_task_that_is_cancelled_before_it_began(self):
        backend = self.backend(pieces=("tick ",), loop=True)

        async def main():
            response = backend.generate_response_async("x")
            task = asyncio.create_task(response)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            return response

        self.cancelled(backend, self.run_async(main()))

    def test_a_timeout_stops_the_engine(self):
        backend = self.backend(pieces=("tick ",), loop=True)

        async def main():
            response = backend.generate_response_async("x")
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(response, 0.001)
            return response

        self.cancelled(backend, self.run_async(main()))

    def test_a_stream_that_is_left(self):
        backend = self.backend(pieces=("tick ",), loop=True)

        async def main():
            response = backend.generate_response_async("x")
            stream = response.__aiter__()
            self.assertEqual(await stream.__anext__(), "tick ")
            await stream.aclose()
            return response

        self.cancelled(backend, self.run_async(main()))

    def test_a_loop_that_closes_first(self):
        backend = self.backend(pieces=("tick ",), loop=True)
        responses = []

        async def main():
            responses.append(backend.generate_response_async("x"))
            asyncio.ensure_future(responses[0])
            await asyncio.sleep(0)

        asyncio.run(main())  # cancels what it still has
        self.cancelled(backend, responses[0])


if __name__ == "__main__":
    unittest.main()
