/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One step of a verdict: what the rules of one scope say about a packet.
 *
 * Entries are taken in their order. One whose TCP flags do not fit is passed over; one in mode
 * Audit counts and is passed over with the rest of its filter, as if the filter were not there.
 */
#ifndef LIB_RULES_H
#define LIB_RULES_H

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/* How many bits of an entry's order are its place in its filter; set by the loader. */
const volatile __u32 place_bits = 10;

#define ENTRIES_AT_MOST (1 << 23)

struct query {
	struct packet packet;
	__u32 snapshot;
	__u32 bytes;
	__be32 scope;
	__be32 peer_class;
	bool mirrored; /* the packet is a reply, turned into its original */
};

struct match {
	__u64 place;
	__u32 id;
	__u32 order;
	struct decision decision;
};

#define TAKE_MATCH(match, row)                    \
	({                                        \
		(match)->place = (row)->place;    \
		(match)->id = (row)->id;          \
		(match)->order = (row)->order;    \
		(match)->decision = (row)->value; \
	})

static __always_inline bool find_match_v4(const struct query *query, __u64 floor,
					  struct match *match)
{
	struct rule_v4_elem key = {
		.scope = query->scope,
		.peer_class = query->peer_class,
		.saddr = query->packet.saddr.v4,
		.daddr = query->packet.daddr.v4,
		.sport = query->packet.sport,
		.dport = query->packet.dport,
		.protocol = query->packet.protocol,
	};
	struct rules_v4_row *row = wildcard_lookup(rules_v4, query->snapshot, &key, floor);

	if (row)
		TAKE_MATCH(match, row);
	return row;
}

static __always_inline bool find_match_v6(const struct query *query, __u64 floor,
					  struct match *match)
{
	struct rule_v6_elem key = {
		.scope = query->scope,
		.peer_class = query->peer_class,
		.saddr = query->packet.saddr.v6,
		.daddr = query->packet.daddr.v6,
		.sport = query->packet.sport,
		.dport = query->packet.dport,
		.protocol = query->packet.protocol,
	};
	struct rules_v6_row *row = wildcard_lookup(rules_v6, query->snapshot, &key, floor);

	if (row)
		TAKE_MATCH(match, row);
	return row;
}

static __always_inline bool find_match(const struct query *query, __u64 floor, struct match *match,
				       bool v6)
{
	return v6 ? find_match_v6(query, floor, match) : find_match_v4(query, floor, match);
}

static __always_inline void count_match(const struct match *match, __u32 bytes, bool v6)
{
	if (v6)
		wildcard_count(rules_v6, match, bytes);
	else
		wildcard_count(rules_v4, match, bytes);
}

static __always_inline bool flags_fit(const struct query *query, const struct decision *decision)
{
	if (!decision->flags_mask)
		return true;
	return !query->mirrored &&
	       (query->packet.tcp_flags & decision->flags_mask) == decision->flags_value;
}

/* Names a filter among all: its priority, and its rank among those of this priority. */
static __always_inline __u64 filter_of(const struct match *match)
{
	return (match->place >> 32 << 32) | match->order >> (place_bits & 31);
}

static __always_inline enum action judge_scope(const struct query *query, bool v6)
{
	struct bpf_iter_num entries;
	__u64 audited = ~0ULL;
	struct match match;
	enum action action = ACTION_NONE;

	if (!find_match(query, 0, &match, v6))
		return ACTION_NONE;
	if (!match.decision.flags_mask && !match.decision.audit) {
		count_match(&match, query->bytes, v6);
		return match.decision.action;
	}
	bpf_iter_num_new(&entries, 0, ENTRIES_AT_MOST);
	while (bpf_iter_num_next(&entries)) {
		if (flags_fit(query, &match.decision) && filter_of(&match) != audited) {
			count_match(&match, query->bytes, v6);
			if (!match.decision.audit) {
				action = match.decision.action;
				break;
			}
			audited = filter_of(&match);
		}
		if (!find_match(query, match.place + 1, &match, v6))
			break;
	}
	bpf_iter_num_destroy(&entries);
	return action;
}

/* Not inlined: each is asked up to five times a packet, and has a stack of its own. */
static __noinline enum action judge_scope_v4(const struct query *query)
{
	return judge_scope(query, false);
}

static __noinline enum action judge_scope_v6(const struct query *query)
{
	return judge_scope(query, true);
}

/* The action of `scope`'s rules for the packet in `query`; 0 where none decides, or there is no
 * scope. */
static __always_inline int action_of(struct query *query, __be32 scope, __be32 peer_class, bool v6)
{
	if (!scope)
		return ACTION_NONE;
	query->scope = scope;
	query->peer_class = peer_class;
	return v6 ? judge_scope_v6(query) : judge_scope_v4(query);
}

#endif /* LIB_RULES_H */
