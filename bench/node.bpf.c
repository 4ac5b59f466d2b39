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

/* Hands frames of BPF_PROG_RUN to the stack, as if they had come in at the interface. */
SEC("xdp")
int inject(struct xdp_md *ctx)
{
	return ctx->data < ctx->data_end ? XDP_PASS : XDP_ABORTED;
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
