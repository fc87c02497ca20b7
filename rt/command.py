"""`python -m rt.command ORDER`: the operator's mailbox to control.

The mailbox is a ring with one record to read: the next order is written only once control has
answered the last one in its tick record, so none is ever lost.
"""

from __future__ import annotations

import argparse
import sys
import time

from rt import clock
from rt.cli import end_with_sentence, pick_session, underscored
from rt.errors import SessionError
from rt.records import ORDER_VALID_S, PROMPT_BYTES, Answer, Order, Phase
from rt.records import text as decoded
from rt.session import Session
from rt.shm import Ring
from rt.shm.buffers import Record

ORDERS = {
    Order.GO: "let a real robot move: it stands still until then, and again after a fault",
    Order.PAUSE: "hold the robot where it is",
    Order.RESUME: "go on after a pause",
    Order.NEXT_EPISODE: "end this episode without success and begin the next",
    Order.SUCCESS: "end this episode as a success and begin the next",
    Order.PROMPT: "give the policy another instruction: prompt 'pick up the cup'",
    Order.STOP: "hold the robot and end the session",
}


def send(session: Session, order: Order, text: str = "") -> Answer:
    """Write one order and wait for control's answer.

    Raises SessionError when control does not answer, or the text is too long.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise SessionError(f"prompt: expected text, got bytes that are none: {text!r}") from None
    if len(encoded) > PROMPT_BYTES:
        raise SessionError(f"prompt: expected at most {PROMPT_BYTES} bytes, got {len(encoded)}")
    with session.reader("tick") as ticks, session.writer("command") as mailbox:
        record = mailbox.buffer()
        if order is not Order.STOP:  # which waits for nobody
            _let_pass(ticks, mailbox, record)
        record["order"], record["t_sent"], record["text"] = order, clock.now_ns(), encoded
        index = mailbox.write(record)
        answer = _answer_until(clock.now_ns() + ORDER_VALID_S * 1e9, ticks, index)
    if answer is None:
        raise SessionError(
            f"session {session.name!r}: control did not answer within {ORDER_VALID_S:g} s: "
            "see its state with python -m rt.inspect"
        )
    return answer


def _let_pass(ticks: Ring, mailbox: Ring, record: Record) -> None:
    """Wait until the order before ours, of an operator killed half way, is answered or void."""
    index = mailbox.read_latest(record)
    if index is None:
        return
    void_at = int(record["t_sent"]) + ORDER_VALID_S * 1e9
    _answer_until(void_at, ticks, index)


def _answer_until(t_ns: float, ticks: Ring, index: int) -> Answer | None:
    """Control's answer to order `index`, or to a later one; None if none comes by `t_ns`."""
    record = ticks.buffer()
    while clock.now_ns() < t_ns:
        if ticks.read_latest(record) is not None and int(record["command_index"]) >= index:
            return Answer(int(record["command_answer"]))
        time.sleep(0.005)
    return None


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0: done; 1: refused; 2: a mistake; 3: no session."""
    meanings = {order.name.lower(): meaning for order, meaning in ORDERS.items()}
    parser = argparse.ArgumentParser(
        prog="python -m rt.command",
        description="Give one order to control, and say what it answered.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["orders:", *(f"  {o:<13} {m}" for o, m in meanings.items())]),
    )
    parser.add_argument("order", choices=meanings, metavar="order", help="one of those below")
    parser.add_argument("text", nargs="?", default="", help="the prompt, for `prompt`")
    parser.add_argument("--session", help="default: the one session that is running")
    args = parser.parse_args(underscored(argv))
    order = Order[args.order.upper()]
    if (order is Order.PROMPT) != bool(args.text):
        parser.error("`prompt` needs a text, and only `prompt` takes one")
    session = Session(pick_session(args.session))
    answer = send(session, order, args.text)
    if answer is Answer.DONE:
        print(f"{args.order}: done (session {session.name})")
        return 0
    with session.reader("tick") as ticks:
        record = ticks.buffer()
        ticks.read_latest(record)
    phase, why = Phase(int(record["phase"])).name, decoded(record["why"])
    print(f"{args.order}: refused, control is in phase {phase}" + (f": {why}" if why else ""))
    return 1


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
