"""Which member of a group is to read which partition; pure."""

from collections.abc import Collection, Mapping


def balanced(holders: Mapping[int, str | None], members: Collection[str]) -> dict[int, str | None]:
    """The member of each partition so that no two differ by more than one.

    As few partitions as possible change hands: a member keeps what it holds up to its share, and
    the larger shares go to those who hold more. Without members nobody reads.
    """
    held: dict[str, list[int]] = {member: [] for member in members}
    if not held:
        return dict.fromkeys(holders)
    for partition in sorted(holders):
        holder = holders[partition]
        if holder in held:
            held[holder].append(partition)
    share, larger = divmod(len(holders), len(held))
    order = sorted(held, key=lambda member: (-len(held[member]), member))
    shares = {member: share + (place < larger) for place, member in enumerate(order)}
    kept = {p: member for member in order for p in held[member][: shares[member]]}
    room = (m for m in order for _ in range(shares[m] - len(held[m][: shares[m]])))
    return {p: kept[p] if p in kept else next(room) for p in sorted(holders)}
