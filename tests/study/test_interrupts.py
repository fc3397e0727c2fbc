"""Interrupts: raised in the main thread, or held for code that ends by itself."""

import contextlib
import signal
import threading

import pytest

from inferometer.base.errors import SecondInterrupt
from inferometer.study.interrupts import Interrupts


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_interrupt_is_announced_and_raised_and_the_second_one_says_that_it_is_the_second():
    announced: list[bool] = []
    interrupts = Interrupts(lambda: announced.append(True))
    before = signal.getsignal(signal.SIGINT)
    with interrupts.listening():
        with pytest.raises(KeyboardInterrupt) as first:
            press()
        with pytest.raises(SecondInterrupt):
            press()
    assert not isinstance(first.value, SecondInterrupt)
    assert announced == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_code_that_holds_the_first_interrupt_is_not_stopped_by_it_but_by_the_second():
    interrupts = Interrupts()
    with interrupts.listening(), interrupts.holding_first():
        press()
        assert (interrupts.requested, interrupts.urgent) == (True, False)
        assert [interrupts.first_to_announce(), interrupts.first_to_announce()] == [True, False]
        with pytest.raises(SecondInterrupt):
            press()


def test_an_interrupt_that_was_held_is_raised_by_the_next_check():
    interrupts = Interrupts()
    interrupts.check()
    with interrupts.listening(), interrupts.holding_all():
        press()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        press()
        with pytest.raises(SecondInterrupt):
            interrupts.check()


def test_a_thread_neither_listens_nor_changes_what_the_main_thread_holds():
    interrupts = Interrupts()
    with interrupts.listening(), contextlib.ExitStack() as stack:
        thread = threading.Thread(target=lambda: stack.enter_context(interrupts.holding_all()))
        thread.start()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            press()
