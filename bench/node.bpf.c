/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the node's benchmark compares with, and how it puts packets on an interface. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800

struct source {
	__u32 length;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct source);
	__type(value, __u32);
} sources SEC(".maps");

/* Ethernet and IPv4 header of what is injected. */
struct headers {
	__u8 bytes[34];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct headers);
} frame SEC(".maps");

/*
 * Hands frames of BPF_PROG_RUN to the stack, as if they had come in at the interface. Buffers come
 * back as the stack left them, with another hop's addresses and a lower TTL, so the headers are
 * written anew.
 */
SEC("xdp")
int inject(struct xdp_md *ctx)
{
	struct headers *data = (void *)(long)ctx->data, *headers;
	__u32 zero = 0;

	headers = bpf_map_lookup_elem(&frame, &zero);
	if (!headers || (void *)(data + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*data = *headers;
	return XDP_PASS;
}

/* The least that a filter by source address does: the headers up to it, and one trie. */
SEC("xdp")
int lpm_only(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct source key = { .length = 32 };
	struct ethhdr *frame = data;
	struct iphdr *ip = data + sizeof(*frame);

	if ((void *)(ip + 1) > end || frame->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	key.address = ip->saddr;
	return bpf_map_lookup_elem(&sources, &key) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
