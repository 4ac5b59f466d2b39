/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Drop what matches a list of (source, destination, source port, destination port): the example of
 * the thread that proposed BPF_MAP_TYPE_WILDCARD, on a stock kernel.
 *
 * Packets without ports (other protocols, fragments behind the first) have ports 0 here, so rules
 * that are open in the ports match them and rules that name ports do not.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

#define ETH_P_IP 0x0800
#define IP_OFFSET 0x1fff

WILDCARD_DESC_4(flow, PREFIX, __u32, saddr, PREFIX, __u32, daddr, RANGE, __u16, sport, RANGE, __u16,
		dport);

WILDCARD_GROUP(filters);
WILDCARD_MAP(deny, flow, __u64, 1024);

static __always_inline bool has_ports(const struct iphdr *ip)
{
	return (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) &&
	       !(ip->frag_off & bpf_htons(IP_OFFSET));
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct flow_elem key = {};
	struct deny_row *row;
	__be16 *ports;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	if (has_ports(ip)) {
		ports = (void *)ip + ip->ihl * 4;
		if ((void *)(ports + 2) > end)
			return XDP_DROP;
		key.sport = ports[0];
		key.dport = ports[1];
	}
	row = wildcard_lookup(deny, wildcard_snapshot(filters), &key, 0);
	if (!row)
		return XDP_PASS;
	wildcard_count(deny, row, end - data);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
