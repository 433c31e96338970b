"""What is sent again after a loss, and what is said at the end of patience."""

import pytest

from dorabatch.cmds.client import DaemonAway
from dorabatch.cmds.patience import send_again
from dorabatch.errors import DaemonUnavailable

UNSENT = DaemonAway("nobody there", is_sent=False)
CUT = DaemonAway("cut", is_sent=True)


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORABATCH_PATIENCE_SECONDS", "0.15")


def again(*answers: str | DaemonAway, first: DaemonAway, is_keyed: bool = True) -> str:
    left = list(answers)

    def request() -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, str):
            return answer
        raise DaemonAway(answer.message, is_sent=answer.is_sent)

    return send_again(
        *("dcredit", request, first),
        what="the order",
        look="dcredit statement",
        is_keyed=is_keyed,
    )


def test_a_request_is_repeated_until_it_is_answered() -> None:
    assert again("done", first=CUT) == "done"
    assert again(UNSENT, "done", first=UNSENT, is_keyed=False) == "done"


def test_the_end_says_whether_it_may_have_been_taken() -> None:
    with pytest.raises(DaemonUnavailable, match="there; the order was not taken"):
        again(UNSENT, first=UNSENT)
    with pytest.raises(DaemonUnavailable, match="not known whether the order was take"):
        again(UNSENT, first=CUT)


@pytest.mark.parametrize(("first", "then"), [(CUT, "done"), (UNSENT, CUT)])
def test_without_a_key_nothing_is_sent_twice(
    first: DaemonAway, then: str | DaemonAway
) -> None:
    with pytest.raises(DaemonUnavailable, match=r"cut; it is not known .*see dcredit"):
        again(then, first=first, is_keyed=False)
