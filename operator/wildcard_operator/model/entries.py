# SPDX-License-Identifier: Apache-2.0
"""What a node gets: the contract between the compiler, the agent and the programs in the kernel.

**The map.** One wildcard map per family holds all entries of the node. Its key, in this order:

    scope MATCH u32 | peer class PREFIX u32 | saddr PREFIX | daddr PREFIX | sport RANGE u16 | dport RANGE u16
    | protocol WILDCARD_MATCH u8

A lookup returns the first entry in the total order (priority, order, canonical key bytes) at or after a
floor. Two entries may have equal key fields and differ in (priority, order): both must be kept, since a
lookup may go on after the first. Entries with equal key fields, priority and order do not occur.

**What is looked up.** The packet is the *original* one of its connection: a reply is mirrored first
(addresses and ports swapped, an ICMP echo reply turned into the request). Its addresses and ports stand in
the key as they are in that packet, at either end: `saddr` is always the sender's. ICMP: `sport` is the
type, `dport` the code. Only scope and class change from step to step. `row(x)` is the address table's row,
`class(x)` its `peer_class`, 0 without a row.

    step                     scope                          class
    host ingress (XDP)       interface's `ingress`          0              packet as it is, never mirrored
    host egress (netfilter)  outgoing interface's `egress`  0              packet as it is, never mirrored
    own node, or self        -                              -      passes (self: one `pod` at both ends)
    source's filters         row(saddr).filter_egress       class(daddr)
    source's policies        row(saddr).policy_egress       class(daddr)
    destination's filters    row(daddr).filter_ingress      class(saddr)
    destination's policies   row(daddr).policy_ingress      class(saddr)

Scope 0 is no scope: the step is left out. Each end ends on its own, and both must agree:

- Filters: start at floor 0 and take what the lookup returns. ALLOW: this end agrees, its policies are not
  asked. DROP: dropped. PASS, or nothing found: on to its policies. At the host steps ALLOW and PASS, and
  nothing found, all mean: on to the next step.
- `audit` set: count the rule, then go on at floor `after_filter(priority, order)`; the entry decides nothing.
- `flags_mask` not 0: the entry matches only where `tcp_flags & flags_mask == flags_value`. Else, and always
  for a mirrored packet (flags have no mirror), go on at the next place after it without counting.
- Policies: every policy scope ends with an entry that matches all (its default deny), so something is
  always found.

**Priorities.** Filters 0 to 999,999, then the bands below. Failsafe entries have priority 0 and an order
below every filter's. `order` is made of a rank, which sorts objects of one priority by name, and the rule's
place in its object (the low `PLACE_BITS`). Ranks leave gaps, so a new object renumbers no other but in rare
cases.

**Classes.** Bit 31 is set in every class but 0: a class prefix of length 1 is "any pod that a selector here
could pick", one of length 0 anything.

**Scope numbers** tell the place of use by their two top bits (`ScopeSpace`), so entries of the XDP program
can be split off by `scope >> 30`.

Entries and rows are named tuples, not dataclasses, as a node holds a hundred thousand: a tuple's hash and
comparison cost a fifth, and their columns go into the kernel's arrays as they stand.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wildcard_operator.model.net import Action, Address, Direction, Prefix

K = TypeVar("K")
V = TypeVar("V")

PRIORITY_FILTER_LAST: Final = 999_999
PRIORITY_POLICY: Final = 1_000_000
PRIORITY_DEFAULT_DENY: Final = 1_500_000
PRIORITY_BASELINE: Final = 2_000_000

PLACE_BITS: Final = 10
PLACES: Final = 1 << PLACE_BITS

POD_CLASS_BIT: Final = 1 << 31
ANY_POD: Final = (POD_CLASS_BIT, 1)
ANY_CLASS: Final = (0, 0)
NO_SCOPE: Final = 0


class ScopeSpace(enum.IntEnum):
    """The two top bits of a scope: where its entries are looked up."""

    POD = 0
    HOST_EGRESS = 1
    HOST_INGRESS = 2


SCOPE_SPACE_SHIFT: Final = 30


def after_filter(priority: int, order: int) -> tuple[int, int]:
    """The floor (priority, order) past all rules of the filter that an entry belongs to."""
    return priority, (order | (PLACES - 1)) + 1


class Entry(NamedTuple):
    """One entry of the wildcard map of `family`. Bounds are included; addresses are ints.

    Attributes:
        family: 4 or 6.
        peer_class: With `class_length` leading bits that count; (0, 0) is any.
        sport_min: With `sport_max`: source ports, or ICMP types where the protocol is ICMP or ICMPv6.
        dport_min: With `dport_max`: destination ports, or ICMP codes.
        protocol: 0 to 255, None for any.
        rule: Key of the rule's counter and of its `RuleName`; never 0. Entries of one rule share it.
        audit: The entry only counts; see the module's head.
    """

    family: int
    scope: int
    peer_class: int
    class_length: int
    saddr: int
    saddr_length: int
    daddr: int
    daddr_length: int
    sport_min: int
    sport_max: int
    dport_min: int
    dport_max: int
    protocol: int | None
    flags_value: int
    flags_mask: int
    priority: int
    order: int
    action: Action
    rule: int
    audit: bool


class AddressRow(NamedTuple):
    """What the node knows of an address: the same row for all that it can't tell apart.

    Attributes:
        peer_class: What selectors see in it; 0 where no selector here picks it.
        pod: Number of the node's own pod that holds the address (key of `NodeTables.pods`), 0 for any other.
        policy_ingress: Scopes; 0 is "not isolated", and always 0 for addresses of other nodes.
    """

    peer_class: int
    pod: int
    policy_ingress: int
    policy_egress: int
    filter_ingress: int
    filter_egress: int


class RuleKind(enum.StrEnum):
    """What kind of object a counter's rule belongs to."""

    NETWORK_POLICY = "NetworkPolicy"
    WILDCARD_FILTER = "WildcardFilter"
    DEFAULT_DENY = "DefaultDeny"
    FAILSAFE = "Failsafe"


@dataclass(frozen=True, slots=True)
class RuleName:
    """The labels of a counter, and its identity over restarts.

    `namespace` and `name` are the object's, "" where it has none; `rule` is a filter rule's name, a
    policy's `ingress[0]`, or `default-deny`.
    """

    kind: RuleKind
    namespace: str
    name: str
    rule: str
    direction: Direction
    action: Action


@dataclass(frozen=True, slots=True)
class LocalPod:
    """One of the node's own pods under policy, for the interface table. Host-network pods are not among
    them."""

    namespace: str
    name: str
    uid: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class InterfaceScopes:
    """The scopes of one interface of the node; 0 where no node filter applies."""

    interface: str
    ingress: int
    egress: int


@dataclass(frozen=True, slots=True)
class UnknownPods:
    """What becomes of an address of the node's own pod ranges that the address table lacks."""

    ranges: tuple[Prefix, ...] = ()
    drop: bool = False


class Reason(enum.StrEnum):
    """Why a part of what was asked is not in force as written, for machines."""

    CONFLICTED = "Conflicted"
    NEVER_MATCHES = "NeverMatches"
    NO_INTERFACE = "NoInterface"
    UNKNOWN_FORMAT = "UnknownFormat"
    NOT_SYNCED = "NotSynced"
    HOST_BITS_MASKED = "HostBitsMasked"
    VOLATILE_LABEL = "VolatileLabel"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something of one object that is not taken as written: a reason for machines and a sentence."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One remark about one object; `rule` is "" where it concerns the whole, `message` a sentence for
    people."""

    kind: str
    namespace: str
    name: str
    rule: str
    reason: Reason
    message: str


class ScopeRows(NamedTuple):
    """Entries of one scope. They say `NO_SCOPE`, as other scopes may have the very same objects."""

    scope: int
    rows: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries by scope. They are made as they are asked for: naming a scope with the rules of ten thousand
    policies costs nothing."""

    parts: tuple[ScopeRows, ...] = ()

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    def __iter__(self) -> Iterator[Entry]:
        for scope, rows in self.parts:
            for row in rows:
                yield Entry._make((row[0], scope, *row[2:]))


@dataclass(frozen=True, slots=True)
class NodeTables:
    """The whole of what a node gets. `rules` names every id that `entries` carry."""

    rows: Mapping[Address, AddressRow] = field(default_factory=dict)
    entries: frozenset[Entry] = frozenset()
    rules: Mapping[int, RuleName] = field(default_factory=dict)
    pods: Mapping[int, LocalPod] = field(default_factory=dict)
    interfaces: tuple[InterfaceScopes, ...] = ()
    unknown_pods: UnknownPods = UnknownPods()
    conditions: tuple[Condition, ...] = ()

    def with_delta(self, delta: NodeDelta) -> NodeTables:
        """These tables after a change."""
        return NodeTables(
            rows=_changed(self.rows, delta.rows_set, delta.rows_removed),
            entries=(self.entries - frozenset(delta.entries_removed)) | frozenset(delta.entries_added),
            rules=_changed(self.rules, delta.rules_added, delta.rules_removed),
            pods=_changed(self.pods, delta.pods_set, delta.pods_removed),
            interfaces=self.interfaces if delta.interfaces is None else delta.interfaces,
            unknown_pods=self.unknown_pods if delta.unknown_pods is None else delta.unknown_pods,
            conditions=self.conditions if delta.conditions is None else delta.conditions,
        )


@dataclass(frozen=True, slots=True)
class NodeDelta:
    """What changed since the last delta: one batch, to be committed as one.

    Rows, entries, pods, interfaces and unknown pods belong to one commit. Names in `rules_removed` are free
    once it is done, their counters too. None means unchanged.
    """

    rows_set: Mapping[Address, AddressRow] = field(default_factory=dict)
    rows_removed: tuple[Address, ...] = ()
    entries_added: Entries = Entries()
    entries_removed: Entries = Entries()
    rules_added: Mapping[int, RuleName] = field(default_factory=dict)
    rules_removed: tuple[int, ...] = ()
    pods_set: Mapping[int, LocalPod] = field(default_factory=dict)
    pods_removed: tuple[int, ...] = ()
    interfaces: tuple[InterfaceScopes, ...] | None = None
    unknown_pods: UnknownPods | None = None
    conditions: tuple[Condition, ...] | None = None

    def __bool__(self) -> bool:
        return self != NodeDelta()


def _changed(old: Mapping[K, V], put: Mapping[K, V], removed: Iterable[K]) -> dict[K, V]:
    gone = frozenset(removed)
    return {key: value for key, value in old.items() if key not in gone} | dict(put)
