// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Lookups for user space: WildcardMap.match(), `wildcardctl classify` and the benchmark.
 *
 * One object for every key: the description is read-only data that the loader sets, so
 * the verifier knows it and removes the code of the fields that are not there. The maps
 * are those of the WildcardMap, handed over by the loader with their own sizes.
 *
 * Programs are of type XDP, for BPF_PROG_TEST_RUN, and are never attached. They read
 * `run`, and packets[first] to packets[first + count - 1].
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "wildcard.h"

struct classify_run {
	__u64 floor;
	__u32 first;
	__u32 count;
	__u32 mask; /* number of packets - 1, a power of two less one: for the bench programs */
	__u32 reserved;
	__u64 sum; /* out: keeps the compiler from leaving out what is measured */
};

struct classify_answer {
	__u64 place;
	__u32 row; /* the element of rules, or 0 */
	__u32 id;
};

/* Sizes are the loader's. */
#define CLASSIFY_ARRAY(name, size)                 \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, 1);            \
		__uint(key_size, 4);               \
		__uint(value_size, size);          \
	} name SEC(".maps")

CLASSIFY_ARRAY(group, 8);
CLASSIFY_ARRAY(map_head, 8);
CLASSIFY_ARRAY(map_rules, 8);
CLASSIFY_ARRAY(map_buckets, 8);
CLASSIFY_ARRAY(map_index, 8);
CLASSIFY_ARRAY(packets, 8);
CLASSIFY_ARRAY(answers, 16);
WILDCARD_ARRAY_(run, 1, struct classify_run);

const volatile struct wildcard_desc description = {};

/* The loads stay loads: the loader's values, not this file's zeros. */
static __always_inline const struct wildcard_desc *desc(void)
{
	const struct wildcard_desc *d = (const struct wildcard_desc *)&description;

	asm volatile("" : "+r"(d));
	return d;
}

static long chain(__u32 i __attribute__((unused)), void *walk)
{
	return wildcard_step(desc(), walk, &map_rules);
}

static long tables(__u32 i __attribute__((unused)), void *walk)
{
	return wildcard_next(desc(), walk, &map_rules, &map_buckets, chain);
}

static __always_inline __u32 find(const __u64 *key, __u64 floor)
{
	__u32 image = wildcard_snapshot(group);
	struct wildcard_head *h = bpf_map_lookup_elem(&map_head, &image);

	if (!h)
		return 0;
	return wildcard_find(desc(), h, key, floor, &map_rules, &map_buckets, &map_index, chain,
			     tables);
}

static long match_one(__u32 i, void *context)
{
	struct classify_run *r = context;
	__u32 at = r->first + i;
	__u64 *key = bpf_map_lookup_elem(&packets, &at);
	struct classify_answer *answer = bpf_map_lookup_elem(&answers, &at);
	__u32 row;

	if (!key || !answer)
		return 1;
	row = find(key, r->floor);
	answer->row = row;
	if (row) {
		struct wildcard_entry *entry = bpf_map_lookup_elem(&map_rules, &row);

		if (!entry)
			return 1;
		answer->place = entry->place;
		answer->id = entry->id;
	}
	return 0;
}

/* What is looped over carries no pointer to a map: the state is copied in and out. */
static __always_inline int classify_loop(long (*body)(__u32, void *))
{
	__u32 zero = 0;
	struct classify_run *shared = bpf_map_lookup_elem(&run, &zero);
	struct classify_run r;

	if (!shared)
		return XDP_ABORTED;
	r = *shared;
	bpf_loop(r.count, body, &r, 0);
	shared->sum = r.sum;
	return XDP_PASS;
}

SEC("xdp")
int classify_match(struct xdp_md *ctx __attribute__((unused)))
{
	return classify_loop(match_one);
}

static long independent(__u32 i, void *context)
{
	struct classify_run *r = context;
	__u32 at = (r->first + i) & r->mask;
	__u64 *key = bpf_map_lookup_elem(&packets, &at);

	if (!key)
		return 1;
	r->sum += find(key, r->floor);
	return 0;
}

static long dependent(__u32 i __attribute__((unused)), void *context)
{
	struct classify_run *r = context;
	/* A linear congruential generator that each answer disturbs: no short cycle of packets. */
	__u32 at = (r->first >> 16) & r->mask;
	__u64 *key = bpf_map_lookup_elem(&packets, &at);

	if (!key)
		return 1;
	r->first = r->first * 1664525 + 1013904223 + find(key, r->floor);
	return 0;
}

static long repeated(__u32 i __attribute__((unused)), void *context)
{
	struct classify_run *r = context;
	__u32 at = r->first;
	__u64 *key = bpf_map_lookup_elem(&packets, &at);

	if (!key)
		return 1;
	r->sum += find(key, r->floor);
	return 0;
}

static long empty(__u32 i, void *context)
{
	struct classify_run *r = context;
	__u32 at = (r->first + i) & r->mask;
	__u64 *key = bpf_map_lookup_elem(&packets, &at);

	if (!key)
		return 1;
	r->sum += *key;
	return 0;
}

SEC("xdp")
int bench_independent(struct xdp_md *ctx __attribute__((unused)))
{
	return classify_loop(independent);
}

SEC("xdp")
int bench_dependent(struct xdp_md *ctx __attribute__((unused)))
{
	return classify_loop(dependent);
}

SEC("xdp")
int bench_repeated(struct xdp_md *ctx __attribute__((unused)))
{
	return classify_loop(repeated);
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx __attribute__((unused)))
{
	return classify_loop(empty);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
