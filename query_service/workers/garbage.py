"""Cyclic garbage: looked for once a second, instead of every few requests."""

import asyncio
import gc

_INTERVAL_S = 1.0


async def tend_garbage() -> None:
    """Collect until cancelled, and then leave it to Python again.

    A request leaves no cycles unless it fails, but Python's own collector looks at all that is
    under way each time that 700 objects have come: a tenth of a request's cost. Everything else is
    freed as soon as nobody holds it. What is there at the start stays, and is never looked at.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
