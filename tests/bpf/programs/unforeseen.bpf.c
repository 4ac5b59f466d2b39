/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program that was there before the map: stack, loops and maps of its own, three lookups of
 * different keys. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

struct sixteen {
	__u64 half[2];
};

WILDCARD_GROUP(group);
WILDCARD_DESC_1(small, MATCH, __u32, mark);
WILDCARD_DESC_5(flow, PREFIX, __u32, saddr, PREFIX, __u32, daddr, RANGE, __u16, sport, RANGE, __u16,
		dport, WILDCARD_MATCH, __u8, protocol);
WILDCARD_DESC_9(large, PREFIX, struct sixteen, a, PREFIX, struct sixteen, b, MATCH, struct sixteen,
		c, MATCH, struct sixteen, d, WILDCARD_MATCH, struct sixteen, e, PREFIX,
		struct sixteen, f, PREFIX, struct sixteen, g, RANGE, __u64, h, RANGE, __u64, i);

WILDCARD_MAP(marks, small, __u32, 16);
WILDCARD_MAP(flows, flow, __u64, 1024);
WILDCARD_MAP(wide, large, __u64, 64);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* What the caller keeps on its stack while it looks up. */
#define OWN_STACK 96

SEC("tc")
int classify(struct __sk_buff *skb)
{
	__u8 own[OWN_STACK] = {};
	struct flow_elem flow = {};
	struct small_elem small = {};
	struct large_elem large = {};
	struct marks_row *mark;
	struct flows_row *found;
	struct wide_row *far;
	__u32 snapshot = wildcard_snapshot(group), sum = 0, key = skb->ifindex;
	__u64 *count, one = 1;

	if (bpf_skb_load_bytes(skb, 0, own, sizeof(own)))
		return -1;
	__builtin_memcpy(&flow, own + 8, 13);
	__builtin_memcpy(&large, own, sizeof(own));
	small.mark = skb->mark;
	mark = wildcard_lookup(marks, snapshot, &small, 0);
	if (mark)
		sum += mark->value;
	found = wildcard_lookup(flows, snapshot, &flow, 0);
	if (found) {
		sum += found->value;
		found = wildcard_lookup(flows, snapshot, &flow, found->place + 1);
		if (found)
			sum += found->value;
	}
	far = wildcard_lookup(wide, snapshot, &large, 0);
	if (far)
		sum += far->value;
	count = bpf_map_lookup_elem(&seen, &key);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&seen, &key, &one, 0);
	for (int i = 0; i < OWN_STACK; i++)
		sum += own[i];
	return sum;
}

char LICENSE[] SEC("license") = "GPL";
