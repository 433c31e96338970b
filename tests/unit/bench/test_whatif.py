"""The what-if bench: an invented history is played to its end."""

from bench.whatif import invent_site, measure


def test_an_invented_history_is_played() -> None:
    question = invent_site(40, 4, days=0.1, load=0.5)
    assert question == invent_site(40, 4, days=0.1, load=0.5)
    found = measure(question)
    # What asks for eight GPUs of a model that comes in fours is left out.
    assert 30 <= found["jobs"] <= 40
    assert 0 < found["cycles"] <= 4 * found["jobs"]
    assert found["mean_wait_h"] < 24
