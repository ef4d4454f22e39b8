"""The processes of one run: how they share work out, agree, and end together. One process alone is a world of one."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from dagrpo.errors import Interrupted, UserError
from dagrpo.processes.signals import ShouldStop

if TYPE_CHECKING:  # the command line starts without torch
    from torch import Tensor

DELIBERATE = (UserError, Interrupted, OSError)
"""Endings that one process may come to by itself, and of which it then tells the others."""

LONGEST_WAIT = timedelta(hours=8)
"""How long a process waits for the others to speak: they may sample for hours, or wait for a judge (seven hours at
most). Who dies is noticed at once, by its broken connection; who hangs, by the watchdog of a run."""

T = TypeVar("T")
Item = TypeVar("Item")


class World:
    """One process alone. Its methods are what they would be without it; :class:`Ranks` says what several make of them.

    ``rank`` counts the ``size`` processes from 0; the first leads: it writes the files of which there is one.
    ``shards`` says whether the weights under training are sharded.
    """

    rank = 0
    size = 1
    shards = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of the ranks. All call it."""
        return [value]

    def sum(self, values: "Tensor") -> "Tensor":
        """The sum of the processes' tensors, in a tensor of its own. All call it."""
        return values

    def agreed(self, should_stop: ShouldStop) -> ShouldStop:
        """A flag that is up for all as soon as it is up for one. All look at it, and equally often."""
        return should_stop

    def meets(self) -> bool:
        """Whether all processes come to this place, within a minute."""
        return True

    def each(self, work: Callable[[], T]) -> list[T]:
        """Let every process work and give all results to all.

        Raises:
            UserError, Interrupted, OSError: in every process, if it was raised in one.
        """
        outcome: tuple[T | None, Exception | None]
        try:
            outcome = work(), None
        except DELIBERATE as error:
            outcome = None, error
        outcomes = self.gather(outcome)
        for _, failure in outcomes:
            if failure is not None:
                raise failure
        return [cast(T, result) for result, _ in outcomes]

    def once(self, work: Callable[[], T]) -> T:
        """Let the leading process work and give its result to all. Raises like :meth:`each`."""
        return cast(T, self.each(lambda: work() if self.leads else None)[0])

    def spread(self, work: Callable[[Sequence[Item]], Sequence[T]], items: Sequence[Item]) -> list[T]:
        """Share items out, let each process work on its own, and give all results to all, in the items' order.

        Args:
            work: gives one result an item; it must not depend on which items come together. All processes have the
                same items.

        Raises:
            UserError, Interrupted, OSError: as in :meth:`each`.
        """
        merged: list[Any] = [None] * len(items)
        for rank, share in enumerate(self.each(lambda: work(items[self.rank :: self.size]))):
            merged[rank :: self.size] = share
        return merged


ALONE = World()


class Ranks(World):
    """The processes that torchrun started. They talk over gloo, on the CPU, whatever the gradients travel by."""

    shards = True

    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)

    def gather(self, value: T) -> list[T]:
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def sum(self, values: "Tensor") -> "Tensor":
        import torch.distributed as dist

        total = values.detach().cpu().clone()
        dist.all_reduce(total, group=self._group)
        return total.to(values.device)

    def agreed(self, should_stop: ShouldStop) -> ShouldStop:
        import torch
        import torch.distributed as dist

        def any_of_us() -> bool:
            flag = torch.tensor(int(should_stop()))
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group)
            return bool(flag)

        return any_of_us

    def meets(self) -> bool:
        import torch.distributed as dist

        try:
            dist.monitored_barrier(self._group, timeout=timedelta(minutes=1))
        except RuntimeError:
            return False
        return True


def launched() -> bool:
    """Whether torchrun started this process, as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def ends_first() -> bool:
    """Whether no other process of this run has asked this before: who ends first knows why, the others follow it."""
    if not launched():
        return True
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
        return store.add(f"dagrpo/ended/{os.environ['TORCHELASTIC_RESTART_COUNT']}", 1) == 1
    except dist.DistError:  # whoever keeps the store has gone already; better said twice than never
        return True


def leave(code: int) -> NoReturn:
    """End this process; at once where torchrun started it, without taking the interpreter apart.

    Threads of gloo may still hold parts of it, which then aborts the process after all its work is done
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    if launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def open_world(sharded: bool) -> Iterator[World]:
    """Join the processes that torchrun started, if it started this one.

    Args:
        sharded: whether a process by itself is to hold sharded weights too (:mod:`dagrpo.policy.sharding`), as it must
            to compute in bf16.
    """
    if not (launched() or sharded):
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    # The defaults, ten minutes of NCCL and thirty of gloo, are shorter than what a process may wait for on purpose.
    if launched():
        dist.init_process_group(backend, timeout=LONGEST_WAIT)
    else:
        dist.init_process_group(backend, timeout=LONGEST_WAIT, store=dist.HashStore(), rank=0, world_size=1)
    world = Ranks()
    try:
        yield world
    except DELIBERATE:
        raise
    except BaseException as error:
        if world.size > 1:
            print(
                f"process {world.rank + 1} of {world.size} ends with {type(error).__name__}; where another one died, "
                "that is why. The newest sealed state is whole: run the same command again to continue from it",
                file=sys.stderr,
                flush=True,
            )
        raise
    finally:
        dist.destroy_process_group()
