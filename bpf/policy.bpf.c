/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Judges the packets of a node's pods: network policies, filters of pods, and the filters of nodes
 * in direction Egress.
 *
 * Attached to two hooks of netfilter, once a family:
 *
 * POST_ROUTING, before source NAT. Here a packet has its real destination, as Services are
 * translated, and its real source, as nothing is masqueraded yet. Both ends are judged in one
 * visit, and every packet that is routed or bridged between pods comes by.
 *
 * LOCAL_IN, for what pods send to their own node: policies let it pass, Egress filters of pods
 * judge it.
 *
 * docs/datapath.md gives the order of a verdict, with the reason for each step.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include "wildcard.h"
#include "abi.h"
#include "lib/protocols.h"
#include "lib/packet.h"
#include "lib/conntrack.h"
#include "lib/icmp.h"
#include "lib/maps.h"
#include "lib/ends.h"
#include "lib/ports.h"
#include "lib/rules.h"
#include "lib/verdict.h"

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags,
			       struct bpf_dynptr *ptr__uninit) __ksym;

/* This program's slot, a single bit; set by the loader. */
const volatile __u32 own_slot = 1;
/* Brings the enums of abi.h into the object's BTF, where user space reads them. */
const volatile struct {
	enum layout layout;
	enum direction direction;
	enum action action;
	enum established established;
	enum event event;
} abi_enums;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* What lies at an address of the kernel, to be read like any of its structs. */
#define KERNEL_STRUCT(type, at) \
	((const struct type *)bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct type)))

/* See parse_plain_transport(). A packet whose headers lie in fragments of the buffer is none. */
static __always_inline bool parse_plain(struct sk_buff *skb, struct packet *packet, const bool v6)
{
	const __u32 size = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const struct tcphdr *transport;

	if (skb->len - skb->data_len < size + sizeof(*transport))
		return false;
	transport = KERNEL_STRUCT(tcphdr, skb->data + size);
	return v6 ? parse_plain_ipv6(KERNEL_STRUCT(ipv6hdr, skb->data), transport, packet)
		  : parse_plain_ipv4(KERNEL_STRUCT(iphdr, skb->data), transport, packet);
}

/* Not inlined: the buffers that headers are copied to need no room while rules are looked up. */
static __noinline enum packet_state parse_v4(struct sk_buff *skb, struct packet *packet)
{
	struct bpf_dynptr data;

	if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &data))
		return PACKET_NOT_IP;
	parse_ipv4(&data, 0, packet);
	return packet->state;
}

static __noinline enum packet_state parse_v6(struct sk_buff *skb, struct packet *packet)
{
	struct bpf_dynptr data;

	if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &data))
		return PACKET_NOT_IP;
	parse_ipv6(&data, 0, packet);
	return packet->state;
}

static __always_inline int judge(struct bpf_nf_ctx *ctx, const bool v6)
{
	struct sk_buff *skb = ctx->skb;
	struct query query = {};
	struct control *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings || !(*(volatile __u32 *)&settings->active & own_slot))
		return NF_ACCEPT;
	query.bytes = skb->len;
	query.snapshot = wildcard_snapshot(node);
	if (!parse_plain(skb, &query.packet, v6) &&
	    (v6 ? parse_v6(skb, &query.packet) : parse_v4(skb, &query.packet)) == PACKET_NOT_IP)
		return dropped(EVENT_MALFORMED, &query);
	if (ctx->state->hook == NF_INET_LOCAL_IN)
		return judge_to_node(skb, &query, v6);
	return judge_forwarded(ctx->state, skb, &query, settings->established, v6);
}

SEC("netfilter")
int policy_v4(struct bpf_nf_ctx *ctx)
{
	return judge(ctx, false);
}

SEC("netfilter")
int policy_v6(struct bpf_nf_ctx *ctx)
{
	return judge(ctx, true);
}

/* Several helpers and kfuncs here are for GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
