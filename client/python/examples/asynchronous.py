"""The same words under asyncio."""

import asyncio

import stm.aio


async def main() -> None:
    async with await stm.aio.connect() as client:
        visits = client.ref("/visits", 0)

        @stm.aio.transactional
        async def visit(tx: stm.aio.Tx) -> int:
            return await tx.alter(visits, lambda n: n + 1)

        await asyncio.gather(*(visit(client) for _ in range(10)))
        async with client.lock("/door") as held:
            await client.transact(lambda tx: tx.fence(held))
        print(await visits.get())


asyncio.run(main())
