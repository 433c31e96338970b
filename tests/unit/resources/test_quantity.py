"""Numbers with units: exact, bounded, and never a bool."""

from decimal import Decimal

import pytest

from dorabatch.resources import quantity as q

GOOD = [
    (q.read_bytes, 1, 1),
    (q.read_bytes, "1K", 1000),
    (q.read_bytes, "1Ki", 1024),
    (q.read_bytes, "2Ti", 2 * 2**40),
    (q.read_memory, "6Mi", 6 * 2**20),
    (q.read_run_seconds, "90s", 90),
    (q.read_run_seconds, "365d", 365 * 86400),
    (q.read_cpu_count, 4, 4),
    (q.read_cpu_count, "1m", "1m"),
    (q.read_decimal, 5, Decimal(5)),
    (q.read_decimal, "0.10", Decimal("0.10")),
    (q.read_share_milli, Decimal("0.5"), 500),
    (q.read_share_milli, "0.999", 999),
    (q.read_microcredits, Decimal("2.5"), 2_500_000),
    (q.read_microcredits, "0.000001", 1),
    (q.read_microcredits, 0, 0),
    (q.read_part, Decimal("0.5"), 0.5),
    (q.read_part, 1, 1.0),
]
BAD = [
    *[(q.read_part, bad) for bad in (2, -1, True, "0.5", None, Decimal("1.01"))],
    *[(q.whole_number(1, 5), bad) for bad in (0, 6, "1", True, 1.0, None, Decimal(1))],
    *[(q.read_bytes, bad) for bad in (0, -1, "", "1", "1g", "1.5G", "G", "-1G", True)],
    *[(q.read_bytes, bad) for bad in (None, [], Decimal("1.5"), 2**50 + 1, "2000Ti")],
    *[(q.read_memory, bad) for bad in (1, "5Mi", "x")],
    *[(q.read_run_seconds, bad) for bad in (5, "5", "0s", "1.5h", "366d", "1H", None)],
    *[(q.read_cpu_count, bad) for bad in (0, -1, True, "m", "0m", "-1m", "1", 0.5)],
    *[(q.read_cpu_count, bad) for bad in (4097, "4096001m", None)],
    *[(q.read_decimal, bad) for bad in (-1, "-1", "1e3", "", "x", True, None, 0.5)],
    *[(q.read_decimal, bad) for bad in (Decimal("NaN"), Decimal("Infinity"))],
    *[(q.read_share_milli, bad) for bad in (0, 1, "0.0001", "1.5", "half")],
    *[(q.read_microcredits, bad) for bad in ("0.0000001", 1_000_000_001)],
]


@pytest.mark.parametrize(("read", "value", "expected"), GOOD)
def test_reads(read, value, expected):
    assert read(value) == expected


@pytest.mark.parametrize(("read", "value"), BAD)
def test_refuses(read, value):
    with pytest.raises(ValueError, match=r"must be|is |allowed"):
        read(value)


@pytest.mark.parametrize("micro", [0, 1, 100_000, 2_500_000, 10**15])
def test_credits_round_trip(micro):
    assert q.read_microcredits(q.write_microcredits(micro)) == micro


@pytest.mark.parametrize("milli", [1, 10, 250, 999])
def test_shares_round_trip(milli):
    assert q.read_share_milli(q.write_share_milli(milli)) == milli
