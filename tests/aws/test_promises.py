"""What the core may rely on: every keeper of the ports `Sandboxes` and `Keys` passes the same tests."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.core.errors import Conflict, Invalid, NotFound, Refused, Stale
from chalicelib.core.sandbox import Filter, Policy
from chalicelib.core.states import State
from chalicelib.core.world import Keys, Sandboxes
from tests.aws.conftest import Kept
from tests.examples import OWNER, STRANGER, full_sandbox, key, sandbox
from tests.fakes import BEGINNING

EVERYTHING = Filter()
MINUTE = timedelta(minutes=1)


def test_what_is_written_is_what_is_read(sandboxes: Sandboxes) -> None:
    written = sandboxes.add(full_sandbox())

    assert sandboxes.get(OWNER, written.id) == written


def test_what_is_written_again_is_what_is_read(sandboxes: Sandboxes) -> None:
    written = sandboxes.put(replace(sandboxes.add(full_sandbox()), machine=None, labels={}, env={}, reason=None))

    assert sandboxes.get(OWNER, written.id) == written


def test_the_store_counts_versions(sandboxes: Sandboxes) -> None:
    first = sandboxes.add(sandbox())
    second = sandboxes.put(first)

    assert (first.version, second.version) == (1, 2)


def test_another_organizations_sandbox_is_not_found(sandboxes: Sandboxes) -> None:
    mine = sandboxes.add(sandbox(name="mine"))

    with pytest.raises(NotFound):
        sandboxes.get(STRANGER, mine.id)
    with pytest.raises(NotFound):
        sandboxes.named(STRANGER, "mine")


def test_a_name_finds_its_sandbox(sandboxes: Sandboxes) -> None:
    mine = sandboxes.add(sandbox(name="mine"))

    assert sandboxes.named(OWNER, "mine") == mine


def test_a_name_is_taken_once_in_an_organization(sandboxes: Sandboxes) -> None:
    sandboxes.add(sandbox(name="mine"))
    sandboxes.add(sandbox(name="mine", owner=STRANGER))

    with pytest.raises(Conflict, match="mine"):
        sandboxes.add(sandbox(name="mine"))


def test_a_sandbox_whose_name_is_taken_is_not_half_there(sandboxes: Sandboxes) -> None:
    sandboxes.add(sandbox(name="mine"))
    late = sandbox(name="mine")

    with pytest.raises(Conflict):
        sandboxes.add(late)

    with pytest.raises(NotFound):
        sandboxes.get(OWNER, late.id)


def test_an_id_is_taken_once(sandboxes: Sandboxes) -> None:
    mine = sandboxes.add(sandbox())

    with pytest.raises(Conflict):
        sandboxes.add(replace(mine, name="other", version=0))
    with pytest.raises(NotFound):
        sandboxes.named(OWNER, "other")


def test_two_writers_one_wins(sandboxes: Sandboxes) -> None:
    read = sandboxes.add(sandbox())
    sandboxes.put(replace(read, state=State.STOPPING))

    with pytest.raises(Stale):
        sandboxes.put(replace(read, state=State.DELETING))

    assert sandboxes.get(OWNER, read.id).state is State.STOPPING


def test_what_is_gone_cannot_be_written(sandboxes: Sandboxes) -> None:
    read = sandboxes.add(sandbox())
    sandboxes.bury(read, BEGINNING)

    with pytest.raises(Stale):
        sandboxes.put(read)
    with pytest.raises(Stale):
        sandboxes.bury(read, BEGINNING)


def test_of_twelve_writers_at_once_one_wins(raced: Kept) -> None:
    read = raced.sandboxes.add(sandbox())

    outcomes = _at_once(lambda n: raced.sandboxes.put(replace(read, reason=str(n))))

    assert sorted(map(str, outcomes)) == ["Stale"] * 11 + ["done"]
    assert raced.sandboxes.get(OWNER, read.id).version == read.version + 1


def test_of_twelve_who_want_a_name_one_gets_it(raced: Kept) -> None:
    outcomes = _at_once(lambda _: raced.sandboxes.add(sandbox(name="mine")))

    assert sorted(map(str, outcomes)) == ["Conflict"] * 11 + ["done"]
    assert raced.sandboxes.count(OWNER, EVERYTHING) == 1


def test_of_twelve_who_claim_a_warm_machine_one_gets_it(raced: Kept) -> None:
    warm = raced.sandboxes.add(sandbox(owner=STRANGER))

    outcomes = _at_once(lambda _: raced.sandboxes.claim(warm, sandbox()))

    assert sorted(map(str, outcomes)) == ["Stale"] * 11 + ["done"]
    assert raced.sandboxes.count(OWNER, EVERYTHING) == 1


def test_a_claimed_machine_is_another_sandbox(sandboxes: Sandboxes) -> None:
    warm = sandboxes.add(sandbox(owner=STRANGER, incarnation="m-1"))

    mine = sandboxes.claim(warm, sandbox(name="mine", incarnation="m-1"))

    assert sandboxes.get(OWNER, mine.id) == mine == sandboxes.named(OWNER, "mine") == sandboxes.incarnated("m-1")
    with pytest.raises(NotFound):
        sandboxes.get(STRANGER, warm.id)
    with pytest.raises(NotFound):
        sandboxes.named(STRANGER, warm.name)


def test_a_claim_of_a_machine_that_was_written_is_stale(sandboxes: Sandboxes) -> None:
    warm = sandboxes.add(sandbox(owner=STRANGER))
    sandboxes.put(warm)
    mine = sandbox()

    with pytest.raises(Stale):
        sandboxes.claim(warm, mine)

    with pytest.raises(NotFound):
        sandboxes.get(OWNER, mine.id)


def test_a_claim_under_a_taken_name_changes_nothing(sandboxes: Sandboxes) -> None:
    warm = sandboxes.add(sandbox(owner=STRANGER))
    sandboxes.add(sandbox(name="mine"))

    with pytest.raises(Conflict) as refused:
        sandboxes.claim(warm, sandbox(name="mine"))

    assert not isinstance(refused.value, Stale)
    assert sandboxes.get(STRANGER, warm.id) == warm


def test_an_id_alone_tells_whose_it_is(sandboxes: Sandboxes) -> None:
    mine = sandboxes.add(sandbox())

    assert sandboxes.owner_of(mine.id) == OWNER
    with pytest.raises(NotFound):
        sandboxes.owner_of(sandbox().id)


def test_a_machine_tells_whose_it_is_now(sandboxes: Sandboxes) -> None:
    mine = sandboxes.add(sandbox(incarnation="m-1"))
    other = sandboxes.put(replace(mine, incarnation="m-2"))

    assert sandboxes.incarnated("m-2") == other
    for nobody in ("m-1", "m-3", ""):
        with pytest.raises(NotFound):
            sandboxes.incarnated(nobody)


def test_a_list_is_in_order_of_creation_newest_first(sandboxes: Sandboxes) -> None:
    made = [sandboxes.add(sandbox(created_at=BEGINNING + n * MINUTE)) for n in (2, 0, 1)]

    listed = sandboxes.list(OWNER, EVERYTHING)

    assert listed.items == (made[0], made[2], made[1])
    assert listed.cursor is None


def test_pages_follow_each_other_and_end(sandboxes: Sandboxes) -> None:
    made = [sandboxes.add(sandbox(created_at=BEGINNING + n * MINUTE)).id for n in range(4)]

    first = sandboxes.list(OWNER, EVERYTHING, limit=2)
    second = sandboxes.list(OWNER, EVERYTHING, after=first.cursor, limit=2)

    assert [s.id for s in (*first.items, *second.items)] == made[::-1]
    assert first.cursor is not None
    assert second.cursor is None


def test_a_page_goes_on_where_its_last_sandbox_was_though_that_is_gone(sandboxes: Sandboxes) -> None:
    made = [sandboxes.add(sandbox(created_at=BEGINNING + n * MINUTE)) for n in range(3)]
    first = sandboxes.list(OWNER, EVERYTHING, limit=1)
    sandboxes.bury(made[2], BEGINNING)

    second = sandboxes.list(OWNER, EVERYTHING, after=first.cursor, limit=1)

    assert second.items == (made[1],)


def test_a_cursor_that_is_not_ours_is_refused(sandboxes: Sandboxes) -> None:
    for bad in ("", "nonsense", "é" * 36, "x" * 5000):
        with pytest.raises(Invalid, match="cursor"):
            sandboxes.list(OWNER, EVERYTHING, after=bad)


@pytest.mark.parametrize(
    ("where", "fitting"),
    [
        (EVERYTHING, {"blue-1", "blue-2", "red-1"}),
        (Filter(labels={"team": "blue"}), {"blue-1", "blue-2"}),
        (Filter(labels={"team": "blue", "a.b": "1"}), {"blue-1"}),
        (Filter(labels={"team": "green"}), set()),
        (Filter(states=frozenset({State.STOPPED})), {"red-1"}),
        (Filter(states=frozenset({State.STOPPED, State.STARTED})), {"blue-1", "blue-2", "red-1"}),
        (Filter(name_prefix="blue"), {"blue-1", "blue-2"}),
        (Filter(labels={"a.b": "1"}, states=frozenset({State.STARTED}), name_prefix="blue-"), {"blue-1"}),
    ],
)
def test_a_filter_shows_what_fits(sandboxes: Sandboxes, where: Filter, fitting: set[str]) -> None:
    sandboxes.add(sandbox(name="blue-1", labels={"team": "blue", "a.b": "1"}))
    sandboxes.add(sandbox(name="blue-2", labels={"team": "blue", "a.b": "2"}))
    sandboxes.add(sandbox(name="red-1", labels={"team": "red"}, state=State.STOPPED))
    sandboxes.add(sandbox(name="blue-9", labels={"team": "blue", "a.b": "1"}, owner=STRANGER))

    assert {s.name for s in sandboxes.list(OWNER, where).items} == fitting
    assert sandboxes.count(OWNER, where) == len(fitting)


def test_filtered_pages_are_full_while_more_fits(sandboxes: Sandboxes) -> None:
    for n in range(9):
        sandboxes.add(sandbox(created_at=BEGINNING + n * MINUTE, labels={"odd": str(n % 2)}))
    odd = Filter(labels={"odd": "1"})

    first = sandboxes.list(OWNER, odd, limit=3)
    second = sandboxes.list(OWNER, odd, after=first.cursor, limit=3)

    assert [len(first.items), len(second.items), second.cursor] == [3, 1, None]


def test_what_is_due_comes_longest_overdue_first(sandboxes: Sandboxes) -> None:
    def idle(minutes: int) -> Policy:
        return Policy(stop_after_idle=minutes * MINUTE)

    second, first = (sandboxes.add(sandbox(policy=idle(minutes))) for minutes in (10, 5))
    sandboxes.add(sandbox(policy=idle(30)))
    sandboxes.add(sandbox(policy=Policy(None, None)))

    assert sandboxes.due(BEGINNING + 10 * MINUTE) == [first, second]
    assert sandboxes.due(BEGINNING + 10 * MINUTE, limit=1) == [first]
    assert sandboxes.due(BEGINNING + 4 * MINUTE) == []


def test_what_is_no_longer_due_is_not_shown(sandboxes: Sandboxes) -> None:
    due = sandboxes.add(sandbox(policy=Policy(stop_after_idle=MINUTE)))
    sandboxes.put(replace(due, policy=Policy(None, None)))
    gone = sandboxes.add(sandbox(policy=Policy(stop_after_idle=MINUTE)))
    sandboxes.bury(gone, BEGINNING)

    assert sandboxes.due(BEGINNING + 60 * MINUTE) == []


def test_a_touch_moves_the_deadline_along(sandboxes: Sandboxes) -> None:
    read = sandboxes.add(sandbox(policy=Policy(stop_after_idle=MINUTE)))

    sandboxes.touch(read, BEGINNING + 10 * MINUTE)

    assert sandboxes.get(OWNER, read.id).active_at == BEGINNING + 10 * MINUTE
    assert sandboxes.due(BEGINNING + 10 * MINUTE) == []
    assert len(sandboxes.due(BEGINNING + 11 * MINUTE)) == 1


def test_a_touch_keeps_an_older_reader_from_stopping_the_sandbox(sandboxes: Sandboxes) -> None:
    read = sandboxes.add(sandbox())
    sandboxes.touch(read, BEGINNING + MINUTE)

    with pytest.raises(Stale):
        sandboxes.put(replace(read, state=State.STOPPING))


def test_a_touch_asks_for_no_version(sandboxes: Sandboxes) -> None:
    read = sandboxes.add(sandbox())
    sandboxes.put(replace(read, labels={"a": "b"}))

    sandboxes.touch(read, BEGINNING + MINUTE)

    assert sandboxes.get(OWNER, read.id).active_at == BEGINNING + MINUTE
    assert sandboxes.get(OWNER, read.id).labels == {"a": "b"}


@pytest.mark.parametrize("change", [{"state": State.STOPPED}, {"policy": Policy(stop_after_idle=MINUTE)}])
def test_a_touch_is_nothing_where_the_deadline_follows_from_something_else_by_now(
    sandboxes: Sandboxes, change: dict[str, object]
) -> None:
    read = sandboxes.add(sandbox())
    changed = sandboxes.put(replace(read, **change))  # type: ignore[arg-type]

    sandboxes.touch(read, BEGINNING + MINUTE)

    assert sandboxes.get(OWNER, read.id) == changed


def test_a_touch_of_what_is_gone_is_nothing(sandboxes: Sandboxes) -> None:
    gone = sandboxes.add(sandbox())
    sandboxes.bury(gone, BEGINNING)

    sandboxes.touch(gone, BEGINNING + MINUTE)

    with pytest.raises(NotFound):
        sandboxes.get(OWNER, gone.id)


def test_a_buried_sandbox_leaves_its_name_and_a_tombstone(sandboxes: Sandboxes) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    gone = replace(sandboxes.add(replace(full_sandbox(), name="mine")), state=State.DELETED)

    sandboxes.bury(gone, until)

    assert sandboxes.tombstone(OWNER, gone.id) == gone
    assert sandboxes.list(OWNER, EVERYTHING).items == ()
    sandboxes.add(sandbox(name="mine"))
    for owner in (OWNER, STRANGER):
        with pytest.raises(NotFound):
            sandboxes.get(owner, gone.id)
    with pytest.raises(NotFound):
        sandboxes.tombstone(STRANGER, gone.id)


def test_a_tombstone_goes_when_its_time_is_over(sandboxes: Sandboxes) -> None:
    gone = sandboxes.add(sandbox())

    sandboxes.bury(gone, BEGINNING - timedelta(days=400))

    with pytest.raises(NotFound):
        sandboxes.tombstone(OWNER, gone.id)


def test_a_key_is_read_as_it_was_written(keys: Keys) -> None:
    written = keys.add(key(expires_at=BEGINNING, used_at=BEGINNING))

    assert keys.get(written.hash) == written


def test_an_unknown_key_is_not_found_and_known_once_it_is_made(keys: Keys) -> None:
    with pytest.raises(NotFound):
        keys.get(key().hash)

    keys.add(key())

    assert keys.get(key().hash) == key()


def test_a_users_key_names_are_taken_once(keys: Keys) -> None:
    keys.add(key())
    keys.add(key(hash="2", user="bob"))
    keys.add(key(hash="3", owner=STRANGER))

    with pytest.raises(Conflict):
        keys.add(key(hash="4"))
    with pytest.raises(NotFound):
        keys.get("4")


def test_a_hash_is_taken_once(keys: Keys) -> None:
    keys.add(key())

    with pytest.raises(Conflict):
        keys.add(key(name="other", hash=key().hash))


def test_keys_are_listed_oldest_first_and_only_ones_own(keys: Keys) -> None:
    younger = keys.add(key(name="a", created_at=BEGINNING + MINUTE))
    older = keys.add(key(name="b"))
    keys.add(key(name="c", owner=STRANGER))

    assert keys.list(OWNER) == [older, younger]


def test_a_removed_key_is_gone_at_once_and_its_name_free(keys: Keys) -> None:
    mine = keys.add(key())
    keys.get(mine.hash)

    keys.remove(mine)

    with pytest.raises(NotFound):
        keys.get(mine.hash)
    with pytest.raises(NotFound):
        keys.remove(mine)
    assert keys.list(OWNER) == []
    keys.add(key(hash="another"))


def test_the_use_of_a_key_is_noted(keys: Keys) -> None:
    mine = keys.add(key())
    keys.get(mine.hash)

    keys.note_use(mine, BEGINNING + MINUTE)

    assert keys.get(mine.hash).used_at == BEGINNING + MINUTE
    assert keys.list(OWNER)[0].used_at == BEGINNING + MINUTE


def test_the_use_of_a_removed_key_is_nothing(keys: Keys) -> None:
    gone = keys.add(key())
    keys.remove(gone)

    keys.note_use(gone, BEGINNING)

    assert keys.list(OWNER) == []


def _at_once(act: Callable[[int], object], times: int = 12) -> list[str]:
    """What became of each of twelve: 'done' or the name of the refusal."""

    def tried(number: int) -> str:
        try:
            act(number)
        except Refused as refused:
            return type(refused).__name__
        return "done"

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(tried, range(times)))
