"""Batching by hand for servers that have none: what has queued while the model ran is the next batch."""

import asyncio


class Batcher:
    """Runs `function`, which maps a list of requests to a list of answers, on this event loop's thread: with one
    core, a thread of its own for the model would only add switches. The loop takes in what has arrived between two
    batches, so nothing waits for company, and whoever comes while the model runs shares the next run."""

    def __init__(self, function, max_batch):
        self.function, self.max_batch, self.waiting, self.task = function, max_batch, [], None

    async def __call__(self, request):
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((request, future))
        if self.task is None:
            self.task = asyncio.create_task(self.drain())
        return await future

    async def drain(self):
        while self.waiting:
            # One turn of the loop: whatever sockets have for us is read before the batch is closed.
            await asyncio.sleep(0)
            batch, self.waiting = self.waiting[: self.max_batch], self.waiting[self.max_batch :]
            try:
                answers = self.function([request for request, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers):
                    if not future.done():
                        future.set_result(answer)
        self.task = None
