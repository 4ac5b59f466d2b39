/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wildcard map: a classifier over several fields at once, in pure BPF.
 *
 * A map holds entries. An entry has, for each field of the key, what it matches
 * there (an exact value, a prefix, a range, or anything), a priority, a rule id and
 * a value. A lookup with a packet's fields returns the best entry that matches all
 * of them: the lowest priority number, ties by the entry's order and then by the
 * bytes of the rule. The answer depends on the set of entries only.
 *
 *	WILDCARD_DESC_3(flow, PREFIX, __u32, saddr, RANGE, __u16, dport,
 *			WILDCARD_MATCH, __u8, protocol);
 *	WILDCARD_GROUP(filters);
 *	WILDCARD_MAP(deny, flow, struct verdict, 1024);
 *
 *	__u32 snapshot = wildcard_snapshot(filters);
 *	struct flow_elem key = {.saddr = ip->saddr, .dport = tcp->dest, ...};
 *	struct deny_row *row = wildcard_lookup(deny, snapshot, &key, 0);
 *	if (row)
 *		wildcard_count(deny, row, bytes);
 *
 * Contract
 *
 *  - Fields stand in the key as they stand in the packet: network byte order.
 *    Declare the key with an initialiser, so that its padding is zero.
 *  - PREFIX, MATCH, WILDCARD_MATCH: fields of 1, 2, 4, 8 or 16 bytes. RANGE: 1, 2,
 *    4 or 8. 1 to 9 fields, at most 128 bytes.
 *  - The floor is a place in the total order: only entries at or behind it are
 *    found. 0 finds all; row->place + 1 goes on behind an entry; a priority shifted
 *    left by 32 starts at that priority.
 *  - Take one snapshot a packet and pass it to every lookup of that packet: all maps
 *    of a group then show one state, whatever a writer commits meanwhile.
 *  - The row is valid until the program returns. It is never NULL-like garbage: a
 *    miss is NULL.
 *  - Maps are filled by user space (wildcard_operator.wildcardmap): programs read.
 *
 * Cost
 *
 *  - A lookup is a global function, verified by itself: it adds one call frame to
 *    the caller. Stack: at most 272 of the 512 bytes that a chain of calls may take; the
 *    caller's own frame, with the key, comes on top. Instructions: docs/wildcard-map.md
 *    says how many. Tests hold it to both.
 *  - No helper call on the common path: array lookups are inlined by the verifier.
 *    bpf_loop() runs where more than WILDCARD_INLINE_CHAIN entries share a hash, or
 *    where more than WILDCARD_CHUNK tables could hold a match.
 *  - No per-CPU scratch: programs that interrupt each other on one CPU may both look up.
 *  - Memory, for both images: per entry two rows (24 bytes + twice the key + the ranges
 *    + the value) and 64 to 128 bytes of buckets, 256 KiB of index at most, and 16 bytes
 *    per rule id and CPU of counters.
 *
 * Needs Linux 5.17 (bpf_loop), libbpf's bpf_helpers.h, and clang with -mcpu=v3.
 */
#ifndef WILDCARD_H
#define WILDCARD_H

#include "wildcard/describe.h"
#include "wildcard/layout.h"
#include "wildcard/lookup.h"
#include "wildcard/declare.h"

#endif /* WILDCARD_H */
