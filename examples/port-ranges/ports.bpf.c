/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pass UDP only to the ports that are open on the interface a packet came in by: a map of (u32 id,
 * u16 range). The program can be attached to any number of interfaces; each has ranges of its own
 * in the one map.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

#define ETH_P_IP 0x0800

WILDCARD_DESC_2(service, MATCH, __u32, interface, RANGE, __u16, port);

WILDCARD_GROUP(services);
WILDCARD_MAP(open_ports, service, __u64, 1024);

SEC("xdp")
int ports(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct service_elem key = {};
	struct open_ports_row *row;
	struct udphdr *udp;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end)
		return XDP_DROP;
	/* Keys are in network byte order, whatever they hold. */
	key.interface = bpf_htonl(ctx->ingress_ifindex);
	key.port = udp->dest;
	row = wildcard_lookup(open_ports, wildcard_snapshot(services), &key, 0);
	if (!row)
		return XDP_DROP;
	wildcard_count(open_ports, row, end - data);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
