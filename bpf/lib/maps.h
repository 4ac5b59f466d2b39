/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps that all programs of a node share. Those of the group `node` change together, in one
 * commit: a packet sees the addresses, interfaces and rules of one moment. User space makes them,
 * so the capacities here are only the smallest that a loader may choose.
 */
#ifndef LIB_MAPS_H
#define LIB_MAPS_H

/* Each field as in the original packet of the connection, see model/entries.py. */
/* clang-format off */
#define RULE_KEY(name, address_type)				\
	WILDCARD_DESC_7(name,					\
			MATCH, __be32, scope,			\
			PREFIX, __be32, peer_class,		\
			PREFIX, address_type, saddr,		\
			PREFIX, address_type, daddr,		\
			RANGE, __be16, sport,			\
			RANGE, __be16, dport,			\
			WILDCARD_MATCH, __u8, protocol)
/* clang-format on */

RULE_KEY(rule_v4, __be32);
RULE_KEY(rule_v6, struct in6_addr);
/* IPv4 addresses stand mapped (::ffff:a.b.c.d): one table, and the families can't be confused. */
WILDCARD_DESC_1(address, MATCH, struct in6_addr, address);
WILDCARD_DESC_1(range, PREFIX, struct in6_addr, address);
WILDCARD_DESC_1(port, MATCH, __u32, ifindex); /* host byte order */

/* A range has nothing to tell but that it is there. */
struct nothing {
	__u64 unused;
};

WILDCARD_GROUP(node);
WILDCARD_MAP(rules_v4, rule_v4, struct decision, 1024);
WILDCARD_MAP(rules_v6, rule_v6, struct decision, 1024);
WILDCARD_MAP(addresses, address, struct endpoint, 1024);
WILDCARD_MAP(interfaces, port, struct interface, 1024);
WILDCARD_MAP(unknown, range, struct nothing, 64); /* where an address without a row is dropped */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENTS);
	__type(key, __u32);
	__type(value, struct wildcard_counter);
} events SEC(".maps");

static __always_inline void count_event(enum event event, __u32 bytes)
{
	__u32 at = event;
	struct wildcard_counter *counter = bpf_map_lookup_elem(&events, &at);

	if (!counter)
		return;
	/* Atomic though per CPU: a softirq may run the program while it runs here. */
	__sync_fetch_and_add(&counter->packets, 1);
	__sync_fetch_and_add(&counter->bytes, bytes);
}

#endif /* LIB_MAPS_H */
