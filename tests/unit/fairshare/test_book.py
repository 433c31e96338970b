"""The book: what others have taken from it stays as it was."""

from dorabatch.fairshare.money.book import Allocation, Book


def test_a_list_of_allocations_is_never_changed_once_it_was_given() -> None:
    book = Book()
    for name, end in (("late", 30), ("early", 10), ("middle", 20)):
        before = book.budgeted("z", "alice")
        names = [row.id for row in before]
        book.open(Allocation(id=name, zone="z", account="alice", valid_to=end))
        assert [row.id for row in before] == names
    rows = book.budgeted("z", "alice")
    assert [row.id for row in rows] == ["early", "middle", "late"]
