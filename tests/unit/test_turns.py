"""Who waits for whom when many hosts are asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from orchestrator.verification.turns import Turns


def test_no_more_than_so_many_at_the_same_time() -> None:
    turns, here, most = Turns(2, 60), 0, 0
    lock = threading.Lock()

    def look(pause: threading.Event) -> None:
        nonlocal here, most
        with turns.taken():
            with lock:
                here += 1
                most = max(most, here)
            pause.wait(0.01)
            with lock:
                here -= 1

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(look, [threading.Event()] * 10))
    assert most == 2


def test_those_that_hang_do_not_keep_the_others_waiting() -> None:
    turns, over = Turns(2, 0.05), threading.Event()
    hung, others = [], []

    def hang() -> None:
        with turns.taken():
            hung.append(over.wait(20))

    def look() -> None:
        with turns.taken():
            others.append(over.is_set())

    with ThreadPoolExecutor(20) as pool:
        for _ in range(4):
            pool.submit(hang)
        waiting = [pool.submit(look) for _ in range(10)]
        for each in waiting:
            each.result(10)
        over.set()
    assert (others, hung) == ([False] * 10, [True] * 4)


def test_a_turn_ends_where_what_was_done_in_it_fails() -> None:
    turns, begun = Turns(1, 60), 0
    for _ in range(3):
        with suppress(ValueError), turns.taken():
            begun += 1
            raise ValueError
    assert begun == 3, "the second one would wait a minute for the first"
