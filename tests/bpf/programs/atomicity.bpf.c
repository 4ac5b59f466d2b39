/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Classify without pause and look for answers that no committed set gives.
 *
 * A set gives each number i below `keys` a link, and each link an entry with the same set's mark;
 * no link of one set is a number or a link of another. So a round (i, then the link) that does not
 * end at an entry of the set it began in has seen a mixture. The second lookup goes to the other
 * map of the group, or to the same.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

struct link {
	__u32 set;  /* the mark of the set that this entry belongs to, from 1 */
	__u32 next; /* the link of a number; of a link: itself */
};

struct result {
	__u64 rounds[4]; /* that ended well, by set: 1 or 2 */
	__u64 mixed;	 /* that did not */
};

WILDCARD_GROUP(group);
WILDCARD_DESC_2(key, PREFIX, __u32, number, RANGE, __u16, port);
WILDCARD_MAP(first, key, struct link, 1024);
WILDCARD_MAP(second, key, struct link, 1024);

const volatile __u32 keys;
const volatile __u32 one_map;

struct result result;

static long follow(__u32 i, void *context)
{
	struct result *own = context;
	__u32 snapshot = wildcard_snapshot(group);
	struct key_elem key = { .number = bpf_htonl(i % keys), .port = bpf_htons(i) };
	struct first_row *start = wildcard_lookup(first, snapshot, &key, 0);
	struct link last = {};

	if (!start)
		goto mixed;
	key.number = bpf_htonl(start->value.next);
	if (one_map) {
		struct first_row *row = wildcard_lookup(first, snapshot, &key, 0);

		if (row)
			last = row->value;
	} else {
		struct second_row *row = wildcard_lookup(second, snapshot, &key, 0);

		if (row)
			last = row->value;
	}
	if (last.set != start->value.set || last.next != start->value.next)
		goto mixed;
	own->rounds[last.set & 3]++;
	return 0;
mixed:
	own->mixed++;
	return 0;
}

SEC("raw_tp")
int classify(struct bpf_raw_tracepoint_args *arguments)
{
	struct result own = {};

	bpf_loop(arguments->args[0], follow, &own, 0);
	for (int set = 0; set < 4; set++)
		__sync_fetch_and_add(&result.rounds[set], own.rounds[set]);
	__sync_fetch_and_add(&result.mixed, own.mixed);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
