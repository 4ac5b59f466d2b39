/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Judges what comes in at an interface of the node, by the filters of nodes in direction Ingress.
 *
 * Stateless: every packet as it is, before the kernel has touched it. What is no IP passes, as no
 * filter can speak of it. What claims to be IP and cannot be read is dropped where a filter
 * applies.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include "wildcard.h"
#include "abi.h"
#include "lib/protocols.h"
#include "lib/packet.h"
#include "lib/icmp.h"
#include "lib/maps.h"
#include "lib/ends.h"
#include "lib/rules.h"
#include "lib/ethernet.h"

extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags,
			       struct bpf_dynptr *ptr__uninit) __ksym;

enum family {
	FAMILY_NONE, /* no filter can speak of it */
	FAMILY_V4,
	FAMILY_V6,
};

/* The family of a plain packet behind an untagged header, see parse_plain_transport(); else
 * FAMILY_NONE. */
static __always_inline int parse_plain(struct xdp_md *ctx, struct packet *packet)
{
	const struct ethhdr *frame = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end, *ip = frame + 1;
	const struct tcphdr *behind_v4 = ip + sizeof(struct iphdr);
	const struct tcphdr *behind_v6 = ip + sizeof(struct ipv6hdr);

	if ((const void *)(behind_v4 + 1) > end)
		return FAMILY_NONE;
	if (frame->h_proto == bpf_htons(ETH_P_IP))
		return parse_plain_ipv4(ip, behind_v4, packet) ? FAMILY_V4 : FAMILY_NONE;
	if (frame->h_proto != bpf_htons(ETH_P_IPV6) || (const void *)(behind_v6 + 1) > end)
		return FAMILY_NONE;
	return parse_plain_ipv6(ip, behind_v6, packet) ? FAMILY_V6 : FAMILY_NONE;
}

/* Not inlined: the buffers that headers are copied to need no room while rules are looked up. */
static __noinline int parse_frame(struct xdp_md *ctx, struct packet *packet)
{
	struct bpf_dynptr data;
	__u32 offset = 0;

	packet->state = PACKET_NOT_IP;
	if (bpf_dynptr_from_xdp(ctx, 0, &data))
		return FAMILY_NONE;
	switch (parse_ethernet(&data, &offset)) {
	case bpf_htons(ETH_P_IP):
		packet->state = PACKET_WHOLE;
		parse_ipv4(&data, offset, packet);
		return FAMILY_V4;
	case bpf_htons(ETH_P_IPV6):
		packet->state = PACKET_WHOLE;
		parse_ipv6(&data, offset, packet);
		return FAMILY_V6;
	case ETHERNET_UNREADABLE:
		return FAMILY_V4;
	default:
		return FAMILY_NONE;
	}
}

static __always_inline int verdict(struct query *query, __be32 scope, const bool v6)
{
	if (v6 && is_neighbour_traffic(&query->packet))
		return XDP_PASS;
	query->scope = scope;
	return judge_scope(query, v6) == ACTION_DROP ? XDP_DROP : XDP_PASS;
}

SEC("xdp.frags")
int prefilter(struct xdp_md *ctx)
{
	const struct interface *interface;
	struct query query = {};
	__be32 scope;
	int family;

	query.snapshot = wildcard_snapshot(node);
	interface = interface_of(query.snapshot, ctx->ingress_ifindex);
	if (!interface)
		return XDP_PASS;
	scope = interface->host[DIRECTION_INGRESS];
	if (!scope)
		return XDP_PASS;
	query.bytes = bpf_xdp_get_buff_len(ctx);
	family = parse_plain(ctx, &query.packet) ?: parse_frame(ctx, &query.packet);
	if (family == FAMILY_NONE)
		return XDP_PASS;
	if (query.packet.state == PACKET_MALFORMED || query.packet.state == PACKET_NOT_IP) {
		count_event(EVENT_MALFORMED, query.bytes);
		return XDP_DROP;
	}
	return family == FAMILY_V6 ? verdict(&query, scope, true) : verdict(&query, scope, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
