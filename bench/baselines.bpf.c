/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the wildcard map is compared with: the kernel's own maps over the same packets.
 *
 * Each program looks every packet of `packets` up once a round (2,047 rounds at most: bpf_loop's
 * limit) and gives the time of all rounds. The loader makes the maps `lpm` and `hash` with the key
 * sizes of the set and puts them in place of the ones here: the kernel reads as many bytes of a key
 * as the map says.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define PACKETS 4096
#define PACKET_SIZE 64
#define ADDRESS_SIZE 16

struct packet {
	__u8 bytes[PACKET_SIZE];
};

struct lpm_key {
	__u32 length;
	__u8 address[ADDRESS_SIZE];
};

struct measured {
	__u64 nanoseconds; /* of all rounds */
	__u64 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PACKETS);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct lpm_key));
	__uint(value_size, sizeof(__u32));
} lpm SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, PACKET_SIZE);
	__uint(value_size, sizeof(__u32));
} hash SEC(".maps");

/* Where the source address stands in a packet, its size in bits; set before loading. */
const volatile __u32 address_offset;
const volatile __u32 address_bits;

struct measured measured;

static __always_inline struct packet *packet_at(__u32 index)
{
	__u32 key = index % PACKETS;

	return bpf_map_lookup_elem(&packets, &key);
}

static long nothing(__u32 index, struct measured *run)
{
	struct packet *packet = packet_at(index);

	if (packet)
		run->hits += packet->bytes[0] & 1;
	return 0;
}

static long in_hash(__u32 index, struct measured *run)
{
	struct packet *packet = packet_at(index);

	if (packet && bpf_map_lookup_elem(&hash, packet))
		run->hits++;
	return 0;
}

static long in_lpm(__u32 index, struct measured *run)
{
	struct packet *packet = packet_at(index);
	struct lpm_key key = { .length = address_bits };

	if (!packet)
		return 0;
	__builtin_memcpy(key.address, packet->bytes + (address_offset & 31), ADDRESS_SIZE);
	if (bpf_map_lookup_elem(&lpm, &key))
		run->hits++;
	return 0;
}

/* Raw tracepoint programs run on demand, and may use every kind of map; sleepable ones may not. */
#define MEASURE(name, body)                                           \
	SEC("raw_tp")                                                 \
	int measure_##name(struct bpf_raw_tracepoint_args *arguments) \
	{                                                             \
		__u32 rounds = arguments->args[0];                    \
		struct measured run = {};                             \
		__u64 start = bpf_ktime_get_ns();                     \
                                                                      \
		bpf_loop(rounds *PACKETS, body, &run, 0);             \
		run.nanoseconds = bpf_ktime_get_ns() - start;         \
		measured = run;                                       \
		return 0;                                             \
	}

MEASURE(nothing, nothing)
MEASURE(hash, in_hash)
MEASURE(lpm, in_lpm)

char LICENSE[] SEC("license") = "GPL";
