"""States: the moves, the codes and the words of a filter."""

import pytest

from dorabatch.queue.states import (
    HOLDING,
    LEGAL_MOVES,
    Outcome,
    State,
    parse_state_filter,
    state_code,
)


def test_every_state_has_a_way_out_and_can_be_reached() -> None:
    assert set(LEGAL_MOVES) == set(State)
    assert all(LEGAL_MOVES.values())
    assert set().union(*LEGAL_MOVES.values()) == set(State)


def test_no_state_moves_to_itself() -> None:
    assert not [state for state, moves in LEGAL_MOVES.items() if state in moves]


def test_what_waits_or_is_over_holds_nothing() -> None:
    assert set(State) - HOLDING == {State.QUEUED, State.FINISHED}


def test_an_attempt_that_holds_something_only_finishes_through_stopping() -> None:
    sources = {s for s, moves in LEGAL_MOVES.items() if State.FINISHED in moves}
    assert sources == {State.QUEUED, State.STOPPING}


@pytest.mark.parametrize(
    ("state", "outcome", "code"),
    [
        (State.QUEUED, None, "PD"),
        (State.PLACED, None, "CF"),
        (State.STARTING, None, "CF"),
        (State.RUNNING, None, "R"),
        (State.STOPPING, Outcome.FAILED, "CG"),
        (State.FINISHED, None, "CD"),
        (State.FINISHED, Outcome.DONE, "CD"),
        (State.FINISHED, Outcome.FAILED, "F"),
        (State.FINISHED, Outcome.CANCELLED, "CA"),
        (State.FINISHED, Outcome.TIMEOUT, "TO"),
        (State.FINISHED, Outcome.NODE_LOST, "NF"),
    ],
)
def test_codes(state: State, outcome: Outcome | None, code: str) -> None:
    assert state_code(state, outcome) == code


@pytest.mark.parametrize(
    ("word", "codes"),
    [
        ("running", {"R"}),
        ("RUNNING", {"R"}),
        ("r", {"R"}),
        (" pd ", {"PD"}),
        ("pending", {"PD"}),
        ("queued", {"PD"}),
        ("placed", {"CF"}),
        ("node_lost", {"NF"}),
        ("to", {"TO"}),
        ("finished", {"CD", "F", "CA", "TO", "NF"}),
    ],
)
def test_words_of_a_filter(word: str, codes: set[str]) -> None:
    assert parse_state_filter(word) == codes


@pytest.mark.parametrize("word", ["", "runing", "X", "done,failed"])
def test_an_unknown_word_names_what_is_allowed(word: str) -> None:
    with pytest.raises(ValueError, match=r"unknown state .*allowed: .*running"):
        parse_state_filter(word)
